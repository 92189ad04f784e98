"""Molecular dynamics."""

from fusion.tasks import lazily

__getattr__ = lazily("MolecularDynamics", __name__)
