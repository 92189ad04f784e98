"""Potential of self energies and a sum over pairs: replace the sum by your own model."""

from collections.abc import Sequence

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor, nn

from fusion.potentials import Batch, Prediction, SelfEnergies, neighbours


class Model(nn.Module):
    """Morse potential of pairs of atoms closer than `cutoff`: `depth` in hartree, `width` in 1/bohr, lengths in bohr.

    The self energies of `elements` are added to it; training first fits them to the data.
    """

    places: Tensor

    def __init__(self, elements: Sequence[str], depth: float, width: float, distance: float, cutoff: float) -> None:
        super().__init__()
        self.elements = tuple(elements)  # other elements are refused
        self.self_energies = SelfEnergies(len(self.elements))
        places = torch.zeros(len(chemical_symbols), dtype=torch.int64)
        places[[atomic_numbers[symbol] for symbol in self.elements]] = torch.arange(len(self.elements))
        self.register_buffer("places", places, persistent=False)
        self.depth = nn.Parameter(torch.tensor(float(depth), dtype=torch.float64))
        self.width, self.distance, self.cutoff = width, distance, cutoff

    def forward(self, batch: Batch) -> Prediction:
        """Return energies (B,) in hartree; the core derives forces, stress and Hessian."""
        near = neighbours(batch, self.cutoff)  # every pair twice, including periodic images
        r = near.distances
        well = (1.0 - torch.exp(-self.width * (r - self.distance))) ** 2 - 1.0
        system = near.system[near.centre]
        pairs = 0.5 * self.depth * r.new_zeros(len(batch)).index_add(0, system, well)
        return Prediction(energy=pairs + self.self_energies(self.places[near.numbers], near.system, len(batch)))
