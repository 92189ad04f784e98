"""Energy of a structure."""

from fusion.tasks import lazily

__getattr__ = lazily("Energy", __name__)
