"""Labels of structures, cut into batches of tensors. Atomic units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fusion.evaluation.tensors import DIPOLE, STRESS

if TYPE_CHECKING:
    from fusion.datasets import Labelled


def atoms_of(offsets: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Indices into the arrays of atoms for all atoms of structures `indices`, structure by structure."""
    sizes = offsets[indices + 1] - offsets[indices]
    ends = np.cumsum(sizes)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(offsets[indices] - ends + sizes, sizes)


@dataclass(frozen=True)
class Targets:
    """Labels of B structures with N atoms; a missing label is zero, with a False in its mask."""

    sizes: Tensor
    """(B,) float64, atoms."""
    energy: Tensor
    """(B,) float64, hartree."""
    has_energy: Tensor
    """(B,) bool."""
    forces: Tensor | None
    """(N, 3), hartree/bohr."""
    has_forces: Tensor | None
    """(N,) bool."""
    stress: Tensor | None
    """(B, 3, 3), hartree/bohr^3."""
    has_stress: Tensor | None
    """(B,) bool."""
    volume: Tensor | None
    """(B,) bohr^3."""
    dipole: Tensor | None
    """(B, 3) float64, e bohr."""
    has_dipole: Tensor | None
    """(B,) bool."""
    structure: Tensor
    """(N,) int64, the atom's row in the batch."""


class Labels:
    """The labels of all structures, ready to be cut into batches."""

    def __init__(self, labelled: Labelled, energy: np.ndarray, dtype: torch.dtype, dipoles: bool = False) -> None:
        """Read the labels, with `energy` (M,) in place of the labelled energies, forces and stress in `dtype`.

        Dipoles, which crystals do not have, are read only with `dipoles`.
        """
        self.offsets = np.asarray(labelled.offsets)
        self.energy, self.dtype = energy, dtype
        self.has_energy = np.isfinite(energy)
        self.forces = None if labelled.forces is None else np.asarray(labelled.forces)
        self.has_forces = None if self.forces is None else np.isfinite(self.forces).all(axis=1)
        self.sizes = np.diff(self.offsets)
        labelled_atoms = np.zeros(self.offsets[-1]) if self.has_forces is None else self.has_forces
        self.with_forces = np.diff(np.concatenate([[0], np.cumsum(labelled_atoms, dtype=np.int64)])[self.offsets])
        self.stress = None if labelled.cell is None else STRESS.labels(labelled)
        self.has_stress = None if self.stress is None else STRESS.known(self.stress)
        self.volume = None if self.stress is None else np.abs(np.linalg.det(np.asarray(labelled.cell)))
        self.dipole = DIPOLE.labels(labelled) if dipoles else None
        self.has_dipole = None if self.dipole is None else DIPOLE.known(self.dipole)

    def batch(self, indices: np.ndarray, device: torch.device | str = "cpu") -> Targets:
        """Return the labels of the structures `indices` (B,)."""
        sizes = self.offsets[indices + 1] - self.offsets[indices]

        def tensor(array: np.ndarray, dtype: torch.dtype = torch.float64) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device, dtype)

        forces = has_forces = stress = has_stress = volume = dipole = has_dipole = None
        if self.forces is not None and self.has_forces is not None:
            atoms = atoms_of(self.offsets, indices)
            has_forces = self.has_forces[atoms]
            forces = tensor(np.where(has_forces[:, None], self.forces[atoms], 0.0), self.dtype)
        if self.stress is not None and self.has_stress is not None and self.volume is not None:
            has_stress = self.has_stress[indices]
            stress = tensor(np.where(has_stress[:, None, None], self.stress[indices], 0.0), self.dtype)
            volume = tensor(self.volume[indices])
        if self.dipole is not None and self.has_dipole is not None:
            has_dipole = self.has_dipole[indices]
            dipole = tensor(np.where(has_dipole[:, None], self.dipole[indices], 0.0))
        return Targets(
            sizes=tensor(sizes),
            energy=tensor(np.where(self.has_energy[indices], self.energy[indices], 0.0)),
            has_energy=torch.from_numpy(self.has_energy[indices]).to(device),
            forces=forces,
            has_forces=None if has_forces is None else torch.from_numpy(has_forces).to(device),
            stress=stress,
            has_stress=None if has_stress is None else torch.from_numpy(has_stress).to(device),
            volume=volume,
            dipole=dipole,
            has_dipole=None if has_dipole is None else torch.from_numpy(has_dipole).to(device),
            structure=torch.from_numpy(np.repeat(np.arange(len(indices)), sizes)).to(device),
        )
