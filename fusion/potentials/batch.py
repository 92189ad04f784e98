"""Systems of different sizes as padded tensors. Atomic units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase.data import atomic_numbers
from torch import Tensor

from fusion.chemistry.system import System

if TYPE_CHECKING:
    from fusion.datasets.labelled import Labelled


@dataclass(frozen=True)
class Batch:
    """B systems padded to A atoms.

    Padding has number 0, position zero and `mask` False: sum over real atoms only (`neighbours` lists no padding).
    `cell` is zero and `pbc` False where a system is not periodic.
    """

    numbers: Tensor
    """(B, A) int64, atomic numbers."""
    positions: Tensor
    """(B, A, 3), bohr."""
    mask: Tensor
    """(B, A) bool, True for real atoms."""
    cell: Tensor
    """(B, 3, 3), bohr, rows are the cell vectors."""
    pbc: Tensor
    """(B, 3) bool."""
    charge: Tensor
    """(B,) int64."""
    spin: Tensor
    """(B,) int64, N_up - N_down."""

    def __len__(self) -> int:
        return len(self.numbers)

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch on another device."""
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def collate(systems: Sequence[System], dtype: torch.dtype = torch.float64) -> Batch:
    """Pad `systems` into one batch; positions and cells in `dtype`."""
    sizes = np.array([len(system.symbols) for system in systems])
    mask = np.arange(sizes.max()) < sizes[:, None]
    numbers, positions = np.zeros(mask.shape, dtype=np.int64), np.zeros((*mask.shape, 3))
    numbers[mask] = [atomic_numbers[symbol] for system in systems for symbol in system.symbols]
    positions[mask] = np.concatenate([system.positions for system in systems])
    cell = np.zeros((len(systems), 3, 3))
    for row, system in enumerate(systems):
        if system.cell is not None:
            cell[row] = system.cell
    return Batch(
        numbers=torch.from_numpy(numbers),
        positions=torch.from_numpy(positions).to(dtype),
        mask=torch.from_numpy(mask),
        cell=torch.from_numpy(cell).to(dtype),
        pbc=torch.tensor([system.pbc for system in systems], dtype=torch.bool),
        charge=torch.tensor([system.charge for system in systems]),
        spin=torch.tensor([system.spin for system in systems]),
    )


def batch_of(labelled: Labelled, indices: Any, dtype: torch.dtype) -> Batch:
    """Pad the structures `indices` of a data set into one batch; positions and cells in `dtype`."""
    indices = np.asarray(indices, dtype=np.int64)
    sizes, atoms = labelled.offsets[indices + 1] - labelled.offsets[indices], labelled.atoms(indices)
    mask = np.arange(sizes.max(initial=0)) < sizes[:, None]
    numbers, positions = np.zeros(mask.shape, dtype=np.int64), np.zeros((*mask.shape, 3))
    numbers[mask], positions[mask] = labelled.numbers[atoms], labelled.positions[atoms]
    cell = np.zeros((len(indices), 3, 3)) if labelled.cell is None else labelled.cell[indices]
    pbc = np.zeros((len(indices), 3), dtype=bool) if labelled.pbc is None else labelled.pbc[indices]
    return Batch(
        numbers=torch.from_numpy(numbers),
        positions=torch.from_numpy(positions).to(dtype),
        mask=torch.from_numpy(mask),
        cell=torch.from_numpy(np.array(cell)).to(dtype),
        pbc=torch.from_numpy(np.array(pbc)),
        charge=torch.from_numpy(labelled.charge[indices].astype(np.int64)),
        spin=torch.from_numpy(labelled.assumed_spins(indices)),
    )
