"""Morse pair potential: D (1 - exp(-a (r - r0)))^2 - D for every pair of atoms closer than a cutoff."""

import torch
from torch import nn

from fusion.potentials import Batch, Prediction, neighbours


class Morse(nn.Module):
    """Well depth in hartree, width in 1/bohr, lengths in bohr; `ensemble` members differ in depth by `spread` each."""

    provides = frozenset({"energy_std"})

    def __init__(self, depth: float, width: float, distance: float, cutoff: float, spread: float) -> None:
        super().__init__()
        self.depths = nn.Parameter(depth + spread * torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64))
        self.width, self.distance, self.cutoff = width, distance, cutoff

    def forward(self, batch: Batch) -> Prediction:
        pairs = neighbours(batch, self.cutoff)
        system, r = pairs.system[pairs.centre], pairs.distances
        well = (1.0 - torch.exp(-self.width * (r - self.distance))) ** 2 - 1.0
        members = 0.5 * self.depths[:, None] * r.new_zeros(len(batch)).index_add(0, system, well)
        return Prediction(energy=members.mean(dim=0), members=members)
