"""Coulomb energy of a neutral periodic cell by Ewald's sum.

The potential of a unit charge, its images and a uniform background that neutralises them is

    v(r) = sum_R erfc(sqrt(gamma) |r + R|) / |r + R| + 4 pi / V sum_{G != 0} exp(-G^2 / (4 gamma)) cos(G . r) / G^2
           - pi / (V gamma),

whose mean over the cell is zero, whatever gamma is. With the Madelung constant v_M = lim_{r -> 0} v(r) - 1 / r, the
energy of charges q per cell is E = sum_{i<j} q_i q_j v(r_ij) + v_M / 2 sum_i q_i^2 (Fraser et al. 1996,
Phys. Rev. B 53, 1814).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from fusion.wavefunctions.periodic.cell import Cell, lattice_points

SPLITTING = 2.8
"""Default of sqrt(gamma) V^(1/3): both sums have a few hundred terms."""

NEGLIGIBLE = 1e-13
"""Terms with a factor erfc(x) or exp(-x^2) below about this are left out of both sums."""


class EwaldSum(nn.Module):
    """Coulomb energy of point charges in a cell; all numbers float64.

    Args:
        cell: the cell.
        splitting: sqrt(gamma) V^(1/3); the energy does not depend on it.
    """

    images: Tensor
    waves: Tensor
    weights: Tensor

    def __init__(self, cell: Cell, splitting: float = SPLITTING) -> None:
        super().__init__()
        self.cell = cell
        self.root = splitting / cell.volume ** (1 / 3)
        decay = math.sqrt(-math.log(NEGLIGIBLE))
        # A vector between -1/2 and 1/2 of every edge is at most half as long as the longest diagonal.
        signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)
        longest = decay / self.root + 0.5 * float(torch.linalg.vector_norm(signs @ cell.vectors, dim=1).max())
        points = lattice_points(cell.reciprocal, 2 * decay * self.root)[1:]
        # cos(G . r) is even: one of G and -G, with twice the weight.
        first = np.array([tuple(point) > (0.0, 0.0, 0.0) for point in points.round(9)])
        waves = torch.tensor(points[first])
        squared = waves.square().sum(-1)
        weights = 8 * torch.pi / cell.volume * torch.exp(-squared / (4 * self.root**2)) / squared
        images = torch.tensor(lattice_points(cell.vectors, longest))
        self.constant = -math.pi / (cell.volume * self.root**2)
        distances = torch.linalg.vector_norm(images[1:], dim=-1)
        direct = (torch.erfc(self.root * distances) / distances).sum() - 2 * self.root / math.pi**0.5
        self.madelung = float(direct + weights.sum()) + self.constant
        for name, value in (("images", images), ("waves", waves), ("weights", weights)):
            self.register_buffer(name, value, persistent=False)

    def forward(self, positions: Tensor, charges: Tensor) -> Tensor:
        """Energies (B,) per cell, hartree, of charges (P,) at positions (B, P, 3), bohr, float64.

        A uniform background neutralises them.
        """
        i, j = torch.triu_indices(len(charges), len(charges), 1, device=positions.device)
        products = charges[i] * charges[j]
        vectors = self.cell.nearest(positions[:, i] - positions[:, j])
        direct = torch.zeros_like(positions[:, 0, 0])
        for image in self.images:  # one at a time: all pairs and images at once would not fit the cache
            distances = torch.linalg.vector_norm(vectors + image, dim=-1)
            direct += (torch.erfc(self.root * distances) / distances) @ products
        phases = positions @ self.waves.T
        squares = charges.square().sum()
        density = (charges @ torch.cos(phases)).square() + (charges @ torch.sin(phases)).square() - squares
        return direct + 0.5 * (density @ self.weights) + self.constant * products.sum() + 0.5 * self.madelung * squares
