"""Kinetic energy and Coulomb potential of electrons and clamped nuclei, non-relativistic, in hartree and bohr."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.wavefunctions.hamiltonians.point import Point


class Kinetic(nn.Module):
    """-1/2 sum_i lap_i; ``system`` is not used: every term is built with it."""

    name = "kinetic"

    def __init__(self, system: System | None = None) -> None:
        super().__init__()

    def forward(self, point: Point) -> Tensor:
        """-1/2 (lap log|psi| + |grad log|psi||^2), (B,), float64; not finite where psi vanishes."""
        psi = point.psi
        return -0.5 * (psi.laplacian.double() + psi.gradient.double().square().sum(-1))


class Coulomb(nn.Module):
    """-sum_iA Z_A/r_iA + sum_{i<j} 1/r_ij + sum_{A<B} Z_A Z_B/R_AB; Z_eff for an effective core potential.

    Raises InputError for a periodic system, whose interaction is an `Ewald` sum.
    """

    name = "coulomb"
    nuclei: Tensor
    charges: Tensor

    def __init__(self, system: System) -> None:
        super().__init__()
        if system.cell is not None:
            raise InputError(f"method.hamiltonian: Coulomb is for molecules; {system.name} is periodic and needs Ewald")
        nuclei = torch.tensor(system.positions, dtype=torch.float64)
        charges = torch.tensor(system.charges, dtype=torch.float64)
        self.register_buffer("nuclei", nuclei, persistent=False)
        self.register_buffer("charges", charges, persistent=False)
        self.nuclear_repulsion = system.nuclear_repulsion

    def forward(self, point: Point) -> Tensor:
        """Potential energy (B,), float64."""
        r = point.electrons.double()
        attraction = (self.charges / torch.cdist(r, self.nuclei.expand(len(r), -1, -1))).sum((1, 2))
        i, j = torch.triu_indices(r.shape[1], r.shape[1], 1, device=r.device)
        repulsion = (1 / torch.linalg.vector_norm(r[:, i] - r[:, j], dim=-1)).sum(-1)
        return repulsion - attraction + self.nuclear_repulsion
