"""Systems of different size as padded tensors. Atomic units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from fusion.system import System


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
        """The same batch on another device."""
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def collate(systems: Sequence[System], dtype: torch.dtype = torch.float64) -> Batch:
    """Pad `systems` into one batch; positions and cells in `dtype`."""
    largest = max(len(system.symbols) for system in systems)
    batch = Batch(
        numbers=torch.zeros(len(systems), largest, dtype=torch.int64),
        positions=torch.zeros(len(systems), largest, 3, dtype=dtype),
        mask=torch.zeros(len(systems), largest, dtype=torch.bool),
        cell=torch.zeros(len(systems), 3, 3, dtype=dtype),
        pbc=torch.tensor([system.pbc for system in systems], dtype=torch.bool),
        charge=torch.tensor([system.charge for system in systems]),
        spin=torch.tensor([system.spin for system in systems]),
    )
    for row, system in enumerate(systems):
        atoms = len(system.symbols)
        batch.numbers[row, :atoms] = torch.as_tensor(system.numbers)
        batch.positions[row, :atoms] = torch.tensor(system.positions, dtype=dtype)
        batch.mask[row, :atoms] = True
        if system.cell is not None:
            batch.cell[row] = torch.tensor(system.cell, dtype=dtype)
    return batch
