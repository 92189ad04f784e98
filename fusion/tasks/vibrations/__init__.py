"""Harmonic vibrations, spectra and thermochemistry."""

from fusion.tasks import lazily

__getattr__ = lazily("Vibrations", __name__)
