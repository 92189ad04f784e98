"""Learned potential energies E(R): protocol, batches, derivatives, and the adapter that turns a model into a method."""

from fusion.potentials.batch import Batch, collate
from fusion.potentials.method import PotentialMethod
from fusion.potentials.neighbours import Neighbours, neighbours
from fusion.potentials.protocol import Potential, Prediction
from fusion.potentials.self_energies import SelfEnergies

__all__ = [
    "Batch",
    "Neighbours",
    "Potential",
    "PotentialMethod",
    "Prediction",
    "SelfEnergies",
    "collate",
    "neighbours",
]
