"""Transition states: elastic bands and saddle searches."""

from fusion.tasks import lazily

__getattr__ = lazily("TransitionState", __name__)
