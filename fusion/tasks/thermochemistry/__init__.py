"""Thermochemistry of molecules and reactions."""

from fusion.tasks import lazily

__getattr__ = lazily("Thermochemistry", __name__)
