"""Training of models of every kind."""

from fusion.tasks import lazily

__getattr__ = lazily("Train", __name__)
