"""Errors of a method on labelled structures, or evaluation of a trained wavefunction."""

from fusion.tasks import lazily

__getattr__ = lazily("Evaluate", __name__)
