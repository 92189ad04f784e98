"""Excited states: energies, spins, oscillator strengths."""

from fusion.tasks import lazily

__getattr__ = lazily("ExcitedStates", __name__)
