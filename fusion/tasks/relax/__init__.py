"""Relaxation of structures and cells."""

from fusion.tasks import lazily

__getattr__ = lazily("Relax", __name__)
