"""Ionisation potential and electron affinity at a fixed geometry."""

from fusion.tasks import lazily

__getattr__ = lazily("Ionize", __name__)
