"""Potential of self energies and a sum over pairs of atoms: replace the sum by your own model."""

from collections.abc import Sequence

import torch
from ase.data import atomic_numbers, chemical_symbols, covalent_radii
from torch import Tensor, nn

from fusion.chemistry.units import BOHR_PER_ANGSTROM
from fusion.potentials import Batch, Prediction, SelfEnergies, neighbours


class Model(nn.Module):
    """Morse potential for each pair of elements, with three parameters that are trained, up to `cutoff` (bohr).

    The self energies of `elements` are added to it. Training first fits them to the data, and then learns the small
    remainder, a constant per element included.
    """

    size_consistent = True  # `fusion plugins check` tests it
    places: Tensor
    pairs: Tensor

    def __init__(self, elements: Sequence[str], cutoff: float) -> None:
        super().__init__()
        self.elements = tuple(elements)  # other elements are refused
        self.cutoff = cutoff
        self.self_energies = SelfEnergies(len(self.elements))
        numbers = [atomic_numbers[symbol] for symbol in self.elements]
        places = torch.zeros(len(chemical_symbols), dtype=torch.int64)
        places[numbers] = torch.arange(len(numbers))
        first, second = torch.triu_indices(len(numbers), len(numbers))
        pairs = torch.zeros(len(numbers), len(numbers), dtype=torch.int64)
        pairs[first, second] = pairs[second, first] = torch.arange(len(first))
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("pairs", pairs, persistent=False)
        radii = BOHR_PER_ANGSTROM * torch.tensor([covalent_radii[number] for number in numbers])
        self.shift = nn.Parameter(torch.zeros(len(numbers)))  # hartree per atom, beside the self energies
        self.depth = nn.Parameter(torch.full((len(first),), 0.15))  # hartree
        self.width = nn.Parameter(torch.full((len(first),), 1.2))  # 1/bohr
        self.distance = nn.Parameter((radii[first] + radii[second]).float())  # bohr

    def forward(self, batch: Batch) -> Prediction:
        """Return energies (B,) in hartree; the core derives forces, stress and Hessian."""
        near = neighbours(batch, self.cutoff)  # every pair twice, including periodic images
        species = self.places[near.numbers]
        pair = self.pairs[species[near.centre], species[near.other]]
        r = near.distances
        well = self.depth[pair] * ((1.0 - torch.exp(-self.width[pair] * (r - self.distance[pair]))) ** 2 - 1.0)
        smooth = (1.0 - (r / self.cutoff) ** 2).clamp(min=0.0) ** 3  # no jump at the cutoff
        energy = r.new_zeros(len(batch)).index_add(0, near.system[near.centre], 0.5 * well * smooth)
        energy = energy.index_add(0, near.system, self.shift[species])
        return Prediction(energy=energy + self.self_energies(species, near.system, len(batch)))
