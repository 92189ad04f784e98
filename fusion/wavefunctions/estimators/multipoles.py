"""Dipole and quadrupole moments of electrons and nuclei about the origin, in atomic units."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.wavefunctions.estimators.protocol import Estimates, blocked_columns, refuse_cell, with_stderr
from fusion.wavefunctions.hamiltonians import LocalEnergy, Point


class Dipole(nn.Module):
    """mu = sum_A Z_A R_A - <sum_i r_i>."""

    name, every = "dipole", 1
    of_nuclei: Tensor
    measures: tuple[str, ...] = ("dipole",)

    def __init__(self, system: System) -> None:
        super().__init__()
        refuse_cell(system, self.name, "a dipole moment is not defined")
        charges = np.asarray(system.charges, dtype=float)
        self.register_buffer("of_nuclei", torch.tensor(charges @ system.positions), persistent=False)

    def forward(self, point: Point, local: LocalEnergy) -> Mapping[str, Tensor]:
        """Local dipoles (B, 3), e bohr."""
        return {"dipole": self.of_nuclei - point.electrons.double().sum(1)}

    def finish(self, series: Mapping[str, np.ndarray]) -> Estimates:
        """Mean with its error."""
        value, stderr = blocked_columns(series["dipole"])
        return Estimates({"dipole": value, "dipole_stderr": stderr})


def dipole(system: System) -> Dipole | None:
    """Build the dipole moment of a molecule; None for a periodic system, which has none."""
    return Dipole(system) if system.cell is None else None


class Quadrupole(nn.Module):
    """Q = 1/2 sum q (3 r r - r^2 1), traceless (Buckingham's convention), over nuclei and electrons."""

    name, every = "quadrupole", 1
    of_nuclei: Tensor
    measures: tuple[str, ...] = ("quadrupole",)

    def __init__(self, system: System) -> None:
        super().__init__()
        refuse_cell(system, self.name, "a quadrupole moment is not defined")
        nuclei = torch.tensor(system.positions, dtype=torch.float64).unsqueeze(0)
        charges = torch.tensor(system.charges, dtype=torch.float64)
        self.register_buffer("of_nuclei", _second_moment(nuclei, charges)[0], persistent=False)

    def forward(self, point: Point, local: LocalEnergy) -> Mapping[str, Tensor]:
        """Local quadrupoles (B, 3, 3), e bohr^2."""
        r = point.electrons.double()
        return {"quadrupole": self.of_nuclei - _second_moment(r, torch.ones_like(r[0, :, 0]))}

    def finish(self, series: Mapping[str, np.ndarray]) -> Estimates:
        """Mean with its error."""
        return Estimates(details={"quadrupole_e_bohr2": with_stderr(*blocked_columns(series["quadrupole"]))})


def _second_moment(r: Tensor, weights: Tensor) -> Tensor:
    """1/2 sum_i w_i (3 r_i r_i - r_i^2 1), (B, 3, 3), of points (B, n, 3)."""
    products = torch.einsum("i,bix,biy->bxy", weights, r, r)
    trace = products.diagonal(dim1=1, dim2=2).sum(-1)
    return 1.5 * products - 0.5 * trace[:, None, None] * torch.eye(3, dtype=r.dtype, device=r.device)
