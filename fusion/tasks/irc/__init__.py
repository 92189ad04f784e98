"""Intrinsic reaction coordinate: paths downhill from a transition state."""

from fusion.tasks import lazily

__getattr__ = lazily("ReactionCoordinate", __name__)
