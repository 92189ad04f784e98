"""Labels of many structures for training."""

from fusion.tasks import lazily

__getattr__ = lazily("Label", __name__)
