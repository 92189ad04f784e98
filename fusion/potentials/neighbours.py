"""Neighbour lists of molecules of any size and of periodic cells. Atomic units."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusion.potentials.batch import Batch

DENSE_ATOMS = 64
"""On GPUs all pairs of a molecule up to this size are compared at once; larger ones go to vesin."""

_DENSE_PAIRS = 4_000_000  # pairs compared at a time; limits the memory for a large batch of small molecules


@dataclass(frozen=True)
class Neighbours:
    """N real atoms of a batch, system by system, and their P directed pairs within a cutoff.

    Pairs are sorted by `centre`; each pair occurs in both directions. A periodic atom may be its own neighbour.
    """

    numbers: Tensor
    """(N,) int64, atomic numbers."""
    system: Tensor
    """(N,) int64, the atom's row in the batch."""
    other: Tensor
    """(P,) int64, index of the neighbour."""
    first: Tensor
    """(N + 1,) int64: the pairs of atom n are `first[n]` up to, not including, `first[n + 1]`."""
    vectors: Tensor
    """(P, 3) bohr, from centre to neighbour; differentiable in the batch's positions and cell."""

    @cached_property
    def distances(self) -> Tensor:
        """(P,) bohr, lengths of `vectors`."""
        return self.vectors.norm(dim=-1)

    @cached_property
    def centre(self) -> Tensor:
        """(P,) int64, index of the atom whose neighbour `other` is."""
        atoms = torch.arange(len(self.numbers), device=self.first.device)
        return atoms.repeat_interleave(self.first.diff())


def neighbours(batch: Batch, cutoff: float) -> Neighbours:
    """Find all pairs of real atoms, images included, closer than `cutoff` (bohr).

    Every image within the cutoff counts: cells may be smaller than the cutoff. Only `vectors` are differentiable.
    """
    periodic = bool(batch.pbc.any())
    if batch.positions.device.type == "cpu" and not periodic and not torch.compiler.is_compiling():
        return _molecules(batch, cutoff)
    positions, numbers = batch.positions[batch.mask], batch.numbers[batch.mask]
    system = torch.arange(len(batch), device=positions.device).repeat_interleave(batch.mask.sum(1))
    if not periodic and batch.numbers.shape[1] <= DENSE_ATOMS:
        centre, other = _dense(batch, cutoff)
        vectors = positions[other] - positions[centre]
    else:
        centre, other, shift = _cells(batch, cutoff)
        vectors = positions[other] - positions[centre]
        if periodic:
            vectors = vectors + torch.einsum("pk,pkx->px", shift.to(vectors.dtype), batch.cell[system[centre]])
    first = torch.searchsorted(centre, torch.arange(len(numbers) + 1, device=centre.device))
    return Neighbours(numbers, system, other, first, vectors)


def _molecules(batch: Batch, cutoff: float) -> Neighbours:
    """Compiled search for molecules (no periodic systems) on a CPU."""
    from fusion.potentials import search

    size, atoms = batch.numbers.shape
    rows = np.flatnonzero(batch.mask.numpy())
    starts = np.searchsorted(rows, np.arange(size + 1) * atoms)
    positions = batch.positions.reshape(-1, 3).contiguous()
    array = positions.detach().numpy()
    other, first = search.pairs(array, rows, starts, array.dtype.type(cutoff))
    vectors: Tensor = _Differences.apply(positions, rows, first, other)
    system, chosen = torch.from_numpy(rows // atoms), torch.from_numpy(rows)
    return Neighbours(batch.numbers.view(-1)[chosen], system, torch.from_numpy(other), torch.from_numpy(first), vectors)


class _Differences(torch.autograd.Function):
    """Vectors (P, 3) from atoms to neighbours; atom n is at positions[rows[n]]."""

    @staticmethod
    def forward(ctx: Any, positions: Tensor, rows: np.ndarray, first: np.ndarray, other: np.ndarray) -> Tensor:
        from fusion.potentials import search

        ctx.lists, ctx.size = (rows, first, other), len(positions)
        return torch.from_numpy(search.differences(positions.detach().numpy(), *ctx.lists))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from fusion.potentials import search

        if not torch.is_grad_enabled():
            by_positions = search.gathered(gradient.contiguous().numpy(), *ctx.lists, ctx.size)
            return torch.from_numpy(by_positions), None, None, None
        # Second derivatives are wanted: use torch operations, which can be differentiated again.
        rows, first, other = map(torch.from_numpy, ctx.lists)
        centre = rows.repeat_interleave(first.diff())
        total = gradient.new_zeros(ctx.size, 3).index_add(0, rows[other], gradient)
        return total.index_add(0, centre, -gradient), None, None, None


@torch.no_grad()
def _dense(batch: Batch, cutoff: float) -> tuple[Tensor, Tensor]:
    """Pairs within molecules by comparing all atoms: few operations, quadratic in the size of the largest molecule."""
    size, atoms = batch.numbers.shape
    rank = (batch.mask.flatten().cumsum(0) - 1).reshape(size, atoms)
    step = max(1, _DENSE_PAIRS // atoms**2)
    pairs = []
    for start in range(0, size, step):
        part = slice(start, start + step)
        positions, mask = batch.positions[part], batch.mask[part]
        near = (positions[:, :, None] - positions[:, None, :]).square().sum(-1) < cutoff**2
        near &= mask[:, :, None] & mask[:, None, :]
        near.diagonal(dim1=1, dim2=2).fill_(False)
        row, i, j = near.nonzero(as_tuple=True)
        pairs.append((rank[part][row, i], rank[part][row, j]))
    centre, other = zip(*pairs, strict=True)
    return torch.cat(centre), torch.cat(other)


@torch.no_grad()
def _cells(batch: Batch, cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs and the neighbours' cell shifts (P, 3), system by system with vesin: linear in the number of atoms."""
    from ase.geometry import complete_cell
    from vesin import NeighborList

    search = NeighborList(cutoff=cutoff, full_list=True, sorted=True, n_threads=torch.get_num_threads())
    counts = batch.mask.sum(1).tolist()
    parts, start = [], 0
    for row, atoms in enumerate(counts):
        points = batch.positions[row][batch.mask[row]].cpu().double().numpy()
        pbc = batch.pbc[row].tolist()
        # Directions without periodicity may have no cell vector, but vesin needs a cell with a volume.
        cell = complete_cell(batch.cell[row].cpu().double().numpy()) if any(pbc) else np.zeros((3, 3))
        i, j, shift = search.compute(points=points, box=cell, periodic=pbc, quantities="ijS")
        parts.append((i.astype(np.int64) + start, j.astype(np.int64) + start, shift))
        start += atoms
    device = batch.positions.device
    centre, other, shifts = (torch.from_numpy(np.concatenate(part)).to(device) for part in zip(*parts, strict=True))
    return centre, other, shifts
