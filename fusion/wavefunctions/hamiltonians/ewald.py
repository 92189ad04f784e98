"""Coulomb interaction in a periodic cell."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.wavefunctions.hamiltonians.point import Point
from fusion.wavefunctions.periodic.cell import cell_of
from fusion.wavefunctions.periodic.ewald import SPLITTING, EwaldSum


class Ewald(nn.Module):
    """Coulomb energy of electrons and nuclei per cell, with their images and a uniform background.

    The background is that of the system; a system without one is neutral, or becomes so by a background.
    """

    name = "coulomb"
    nuclei: Tensor
    charges: Tensor

    def __init__(self, system: System, splitting: float = SPLITTING) -> None:
        super().__init__()
        cell = cell_of(system)
        if cell is None or not all(system.pbc):
            raise InputError(
                f"method.hamiltonian: an Ewald sum needs three periodic directions; {system.name} has fewer"
            )
        self.sum = EwaldSum(cell, splitting)
        electrons = -torch.ones(system.n_electrons, dtype=torch.float64)
        charges = torch.cat((electrons, torch.tensor(system.charges, dtype=torch.float64)))
        self.register_buffer("nuclei", torch.tensor(system.positions, dtype=torch.float64), persistent=False)
        self.register_buffer("charges", charges, persistent=False)

    def forward(self, point: Point) -> Tensor:
        """Potential energy (B,), float64."""
        r = point.electrons.double()
        energy: Tensor = self.sum(torch.cat((r, self.nuclei.expand(len(r), -1, -1)), dim=1), self.charges)
        return energy
