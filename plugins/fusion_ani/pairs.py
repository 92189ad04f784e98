"""Pairs of neighbours of the structures of a data set, kept if they fit into memory, and sums over the pairs.

Atomic units. Forces of members are (M, N, 3); slopes, the gradients by the vectors of pairs, are (M, P, 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from fusion.compilation import njit
from fusion.potentials import neighbours
from fusion.potentials.batch import batch_of

if TYPE_CHECKING:
    from fusion.datasets import Labelled

_STRUCTURES = 512  # per neighbour search
_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}


@dataclass(frozen=True)
class Pairs:
    """Pairs of B structures with N atoms, one after the other: `fusion.potentials.Neighbours` in numpy arrays."""

    numbers: np.ndarray
    """(N,) int64, atomic numbers."""
    system: np.ndarray
    """(N,) int64, index of the structure in the batch."""
    first: np.ndarray
    """(N + 1,) int64, first pair of each centre."""
    other: np.ndarray
    """(P,) int64, neighbour of each pair."""
    vectors: np.ndarray
    """(P, 3) bohr."""
    volume: np.ndarray
    """(B,) bohr^3, zero for molecules."""

    def forces(self, slopes: np.ndarray) -> np.ndarray:
        """Forces (M, N, 3), minus the gradients by positions."""
        out = np.zeros((len(slopes), len(self.numbers), 3), slopes.dtype)
        _gather(slopes, self.first, self.other, out)
        return out

    def stress(self, slopes: np.ndarray) -> np.ndarray:
        """Stress (M, B, 3, 3): dE/d(strain) / volume, zero for molecules."""
        centre = self.system[np.repeat(np.arange(len(self.numbers)), np.diff(self.first))]
        out = np.zeros((len(slopes), len(self.volume), 3, 3), slopes.dtype)
        for member, slope in enumerate(slopes):
            np.add.at(out[member], centre, self.vectors[:, :, None] * slope[:, None, :])
        out = 0.5 * (out + out.swapaxes(-1, -2))
        return np.where(self.volume[:, None, None] > 0, out / np.maximum(self.volume, 1e-30)[:, None, None], 0.0)

    def directions(self, by_forces: np.ndarray | None, by_stress: np.ndarray | None) -> np.ndarray:
        """Derivatives (M, P, 3) of a loss by slopes, from those by forces (M, N, 3) and stress (M, B, 3, 3)."""
        some = by_forces if by_forces is not None else by_stress
        assert some is not None
        out = np.zeros((len(some), *self.vectors.shape), self.vectors.dtype)
        if by_forces is not None:
            _differences(by_forces, self.first, self.other, out)
        if by_stress is not None:
            volume = np.where(self.volume > 0, self.volume, np.inf)[:, None, None]
            turn = 0.5 * (by_stress + by_stress.swapaxes(-1, -2)) / volume
            centre = self.system[np.repeat(np.arange(len(self.numbers)), np.diff(self.first))]
            out += np.einsum("mpxy,px->mpy", turn[:, centre], self.vectors, optimize=True).astype(out.dtype)
        return out


class Store:
    """Pairs of all structures, kept if `memory_gb` allows it, otherwise searched again for every batch."""

    def __init__(self, labelled: Labelled, cutoff: float, dtype: np.dtype, memory_gb: float) -> None:
        self.labelled, self.cutoff, self.dtype = labelled, cutoff, dtype
        self.offsets = np.asarray(labelled.offsets)
        self.kept: Pairs | None = None
        self._keep(memory_gb * 1e9)

    @property
    def size(self) -> int:
        """Size of the kept pairs in bytes."""
        return 0 if self.kept is None else sum(array.nbytes for array in vars(self.kept).values())

    def batch(self, indices: np.ndarray) -> Pairs:
        """Pairs of the structures `indices` (B,)."""
        if self.kept is None:
            return self._searched(indices)
        data = self.kept
        starts, stops = self.offsets[indices], self.offsets[indices + 1]
        sizes = _sizes(starts, stops, data.first)
        atoms = int((stops - starts).sum())
        numbers, system, first = np.empty(atoms, np.int64), np.empty(atoms, np.int64), np.empty(atoms + 1, np.int64)
        other, vectors = np.empty(sizes, np.int64), np.empty((sizes, 3), self.dtype)
        _cut(starts, stops, data.numbers, data.first, data.other, data.vectors, numbers, system, first, other, vectors)
        return Pairs(numbers, system, first, other, vectors, data.volume[indices])

    def _keep(self, most: float) -> None:
        """Search the structures in portions; keep the pairs of all, or of none if they exceed `most` bytes."""
        parts, size = [], 0
        for start in range(0, len(self.offsets) - 1, _STRUCTURES):
            part = self._searched(np.arange(start, min(start + _STRUCTURES, len(self.offsets) - 1)))
            size += sum(array.nbytes for array in vars(part).values())
            if size * (len(self.offsets) - 1) / min(start + _STRUCTURES, len(self.offsets) - 1) > most:
                return
            # Neighbours are indexed within their structure, so that the pairs fit any batch.
            begin = self.offsets[start + part.system]
            centre = np.repeat(np.arange(len(part.numbers)), np.diff(part.first))
            parts.append((part, part.other + self.offsets[start] - begin[centre]))
        counts = np.concatenate([np.diff(part.first) for part, _ in parts])
        self.kept = Pairs(
            np.concatenate([part.numbers for part, _ in parts]),
            np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets)),
            np.concatenate([[0], np.cumsum(counts)]),
            np.concatenate([local for _, local in parts]),
            np.concatenate([part.vectors for part, _ in parts]),
            np.concatenate([part.volume for part, _ in parts]),
        )

    def _searched(self, indices: np.ndarray) -> Pairs:
        batch = batch_of(self.labelled, indices, torch.float64)
        pairs = neighbours(batch, self.cutoff)
        volume = torch.linalg.det(batch.cell).abs().numpy()
        arrays = (pairs.numbers.numpy(), pairs.system.numpy(), pairs.first.numpy(), pairs.other.numpy())
        return Pairs(*arrays, np.ascontiguousarray(pairs.vectors.numpy(), self.dtype), volume)


@njit(**_OPTIONS)
def _sizes(starts, stops, first):  # type: ignore[no-untyped-def]
    """Number of pairs of all these structures together."""
    total = 0
    for row in range(len(starts)):
        total += first[stops[row]] - first[starts[row]]
    return total


@njit(**_OPTIONS)
def _cut(starts, stops, all_numbers, all_first, all_other, all_vectors, numbers, system, first, other, vectors):  # type: ignore[no-untyped-def]
    """Copy structures, from atom `starts` up to `stops`, one after the other."""
    atom = pair = 0
    first[0] = 0
    for row in range(len(starts)):
        begin = atom
        for n in range(starts[row], stops[row]):
            numbers[atom], system[atom] = all_numbers[n], row
            for p in range(all_first[n], all_first[n + 1]):
                other[pair] = begin + all_other[p]
                for axis in range(3):
                    vectors[pair, axis] = all_vectors[p, axis]
                pair += 1
            atom += 1
            first[atom] = pair


@njit(**_OPTIONS)
def _gather(slopes, first, other, out):  # type: ignore[no-untyped-def]
    """out[centre] += slope, out[neighbour] -= slope."""
    for member in range(len(slopes)):
        for n in range(len(first) - 1):
            for p in range(first[n], first[n + 1]):
                for axis in range(3):
                    out[member, n, axis] += slopes[member, p, axis]
                    out[member, other[p], axis] -= slopes[member, p, axis]


@njit(**_OPTIONS)
def _differences(by, first, other, out):  # type: ignore[no-untyped-def]
    """out = by[centre] - by[neighbour]."""
    for member in range(len(by)):
        for n in range(len(first) - 1):
            for p in range(first[n], first[n + 1]):
                for axis in range(3):
                    out[member, p, axis] = by[member, n, axis] - by[member, other[p], axis]
