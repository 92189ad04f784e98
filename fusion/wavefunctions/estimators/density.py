"""Electron density on a regular grid around the molecule, `density.cube`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fusion.chemistry import cube
from fusion.chemistry.system import System
from fusion.config.checks import check_number
from fusion.errors import InputError
from fusion.parallel.collectives import gather_rows
from fusion.runs.layout import DENSITY
from fusion.wavefunctions.estimators.protocol import Estimates, check_same, refuse_cell, with_stderr
from fusion.wavefunctions.hamiltonians import LocalEnergy, Point
from fusion.wavefunctions.statistics import blocked

_KEY = "method.evaluation.estimators.density"
_LARGEST = 5_000_000  # number of voxels; the file has 13 bytes for each


class Density(nn.Module):
    """n(r) = <sum_i delta(r - r_i)>, e/bohr^3, as the mean number of electrons in each voxel over its volume.

    The sum over all voxels times their volume is the number of electrons less those outside of the grid. All ranks
    count the electrons of all ranks. Walkers without a finite local energy are left out, as from all other means.

    Args:
        system: nuclei and electrons.
        spacing: edge of a voxel, bohr.
        margin: smallest distance between a nucleus and the border of the grid, bohr.

    Raises:
        InputError: a setting is out of range, or the grid would have too many voxels.
    """

    name, every = "density", 1
    measures: tuple[str, ...] = ("electrons_outside",)
    corner: Tensor
    counts: Tensor
    walkers: Tensor

    def __init__(self, system: System, spacing: float = 0.2, margin: float = 5.0) -> None:
        super().__init__()
        refuse_cell(system, self.name, "a density around a molecule is not defined")
        check_number(f"{_KEY}.spacing", spacing, positive=True)
        check_number(f"{_KEY}.margin", margin)
        self.system, self.spacing, self.margin = system, float(spacing), float(margin)
        low, high = system.positions.min(0) - margin, system.positions.max(0) + margin
        edges = np.maximum(1.0, np.ceil((high - low) / spacing - 1e-9))  # a rounding error must not add a voxel
        if np.prod(edges) > _LARGEST:
            least = 1.05 * float(np.prod(high - low) / _LARGEST) ** (1 / 3)  # edges are rounded up to whole voxels
            raise InputError(
                f"{_KEY}.spacing={spacing} gives a grid of {np.prod(edges):,.0f} voxels; set at least {least:.3g} bohr"
            )
        corner = (low + high - edges * spacing) / 2
        self.register_buffer("corner", torch.tensor(corner), persistent=False)
        self.register_buffer("counts", torch.zeros(tuple(int(edge) for edge in edges), dtype=torch.float64))
        self.register_buffer("walkers", torch.zeros((), dtype=torch.float64))

    def forward(self, point: Point, local: LocalEnergy) -> Mapping[str, Tensor]:
        """Count the electrons, and return the number of those outside of the grid, (B,)."""
        voxels = self._voxels(point.electrons.double())
        kept = gather_rows(voxels)[torch.isfinite(gather_rows(local.total))]
        self.counts += torch.bincount(kept[kept >= 0], minlength=self.counts.numel()).view_as(self.counts)
        self.walkers += len(kept)
        return {"electrons_outside": (voxels < 0).sum(-1).double()}

    def finish(self, series: Mapping[str, np.ndarray]) -> Estimates:
        """Density as a cube file, and the number of electrons inside and the share outside of it."""
        counts, walkers, electrons = self.counts.cpu().numpy(), float(self.walkers), self.system.n_electrons
        inside = float(counts.sum()) / walkers
        error = blocked(series["electrons_outside"]).stderr
        details = {
            "electrons_inside": with_stderr(inside, error),
            "share_outside": with_stderr(1 - inside / electrons, error / electrons),
            "spacing_bohr": self.spacing,
            "grid": list(counts.shape),
        }
        field = cube.Cube(
            counts / (walkers * self.spacing**3),
            self.corner.cpu().numpy() + self.spacing / 2,
            self.spacing * np.eye(3),
            self.system.numbers,
            self.system.charges,
            self.system.positions,
        )
        comment = f"Means over voxels from {walkers:.0f} walkers; {inside:.6f} of {electrons} electrons inside"
        content = cube.content(field, f"Electron density of {self.system.formula}, e/bohr^3", comment)
        return Estimates(details={"density": details}, files={DENSITY: content})

    def get_extra_state(self) -> dict[str, float]:
        """Return the settings that the counts belong to."""
        return {"spacing": self.spacing, "margin": self.margin}

    def set_extra_state(self, state: Any) -> None:
        """Raise InputError if the counts of a checkpoint belong to another grid."""
        check_same(_KEY, state, self.get_extra_state())

    def _voxels(self, electrons: Tensor) -> Tensor:
        """Indices of the voxels of electrons (B, N, 3) in the flat grid, (B, N); -1 outside."""
        places = (electrons - self.corner) / self.spacing
        shape = torch.tensor(self.counts.shape, device=places.device)
        inside = ((places >= 0) & (places < shape)).all(-1)
        strides = torch.tensor([math.prod(self.counts.shape[axis + 1 :]) for axis in range(3)], device=places.device)
        return torch.where(inside, (torch.where(inside.unsqueeze(-1), places, 0).long() * strides).sum(-1), -1)
