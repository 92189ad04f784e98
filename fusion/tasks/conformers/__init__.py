"""Conformers of a molecule."""

from fusion.tasks import lazily

__getattr__ = lazily("Conformers", __name__)
