"""Energy of atoms as energies of elements and a sum over pairs: replace the sum by your model."""

from collections.abc import Sequence

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor, nn

from fusion.potentials import Batch, Prediction, SelfEnergies, neighbours


class Model(nn.Module):
    """Morse potential of pairs of atoms closer than `cutoff`: `depth` in hartree, `width` in 1/bohr, lengths in bohr.

    To the pairs the self energies of `elements` are added: training fits them to the data before anything else.
    """

    places: Tensor

    def __init__(self, elements: Sequence[str], depth: float, width: float, distance: float, cutoff: float) -> None:
        super().__init__()
        self.elements = tuple(elements)  # others are refused
        self.self_energies = SelfEnergies(len(self.elements))
        places = torch.zeros(len(chemical_symbols), dtype=torch.int64)
        places[[atomic_numbers[symbol] for symbol in self.elements]] = torch.arange(len(self.elements))
        self.register_buffer("places", places, persistent=False)
        self.depth = nn.Parameter(torch.tensor(float(depth), dtype=torch.float64))
        self.width, self.distance, self.cutoff = width, distance, cutoff

    def forward(self, batch: Batch) -> Prediction:
        """Energies (B,) in hartree; forces, stress and Hessian come from the core."""
        found = neighbours(batch, self.cutoff)  # every pair twice, images of periodic cells among them
        r = found.distances
        well = (1.0 - torch.exp(-self.width * (r - self.distance))) ** 2 - 1.0
        system = found.system[found.centre]
        pairs = 0.5 * self.depth * r.new_zeros(len(batch)).index_add(0, system, well)
        return Prediction(energy=pairs + self.self_energies(self.places[found.numbers], found.system, len(batch)))
