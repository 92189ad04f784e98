"""Energies' differences against the work of the forces, along the displacements that data have between neighbours.

For two conformations of one molecule, dR apart, E2 - E1 = -(F1 + F2) . dR / 2 up to third order in dR. Close pairs of
a data set so tell the sign of its forces, and their unit against that of the energies, without any method.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fusion.datasets.labelled import Labelled

_MOLECULES, _CONFORMATIONS = 60, 400
_TRIED = 600  # molecules; isomers of one formula have their atoms in different orders
_FEWEST = 6
_SEED = 22


@dataclass(frozen=True)
class Comparison:
    """Of `pairs` neighbours: `slope` is dE over the work of the forces, 1 where all is right; `correlation` of both."""

    pairs: int
    slope: float
    correlation: float

    @property
    def certain(self) -> bool:
        """Whether chance would hardly give such a correlation: Fisher's z beyond four standard deviations."""
        bounded = min(abs(self.correlation), 1.0 - 1e-12)
        return self.pairs > 3 and math.atanh(bounded) * math.sqrt(self.pairs - 3) > 4.0


def compare(data: Labelled) -> Comparison | None:
    """None where the data have too few conformations of any molecule, or no forces."""
    if data.forces is None:
        return None
    random = np.random.default_rng(_SEED)
    rows = [row for members in _molecules(data, random) for row in _pairs(data, members)]
    if len(rows) < _FEWEST:
        return None
    # The error of the work grows with the third power of the displacement: the closer half counts, evenly weighted.
    distance, difference, work = np.array(sorted(rows)).T
    kept = distance <= np.median(distance)
    difference, work = difference[kept] / distance[kept], work[kept] / distance[kept]
    if not (np.abs(work) > 0).any() or not (np.abs(difference) > 0).any():
        return None
    product = float(difference @ work)
    slope = float(np.median(difference[work != 0] / work[work != 0]))
    return Comparison(int(kept.sum()), slope, product / float(np.linalg.norm(difference) * np.linalg.norm(work)))


def _molecules(data: Labelled, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Structures with the same atoms in the same order, with energy and forces, of at most so many molecules."""
    assert data.forces is not None
    usable = np.flatnonzero(
        np.isfinite(data.energy) & np.isfinite(data.forces[data.offsets[:-1], 0]) & (data.sizes > 1)
    )
    _, place, counts = np.unique(data.group[usable], return_inverse=True, return_counts=True)
    order, ends = np.argsort(place, kind="stable"), np.cumsum(counts)
    found = 0
    for molecule in random.permutation(np.flatnonzero(counts > 1))[:_TRIED]:
        members = usable[order[ends[molecule] - counts[molecule] : ends[molecule]]]
        members = np.sort(random.permutation(members)[:_CONFORMATIONS])
        members = members[data.sizes[members] == data.sizes[members[0]]]
        numbers = data.numbers[data.atoms(members)].reshape(len(members), -1)
        members = members[(numbers == numbers[0]).all(axis=1)]
        if len(members) > 1:
            found += 1
            yield members
        if found == _MOLECULES:
            return


def _pairs(data: Labelled, members: np.ndarray) -> Iterator[tuple[float, float, float]]:
    """(|dR|, dE, work) for each conformation and its nearest neighbour: bohr, hartree, hartree."""
    assert data.forces is not None
    atoms = data.atoms(members)
    positions = np.asarray(data.positions[atoms]).reshape(len(members), -1, 3)
    forces = np.asarray(data.forces[atoms]).reshape(len(members), -1, 3)
    energy = np.asarray(data.energy[members])
    free = data.pbc is None or not data.pbc[members].any()
    rotated = positions
    if free:
        positions = positions - positions.mean(axis=1, keepdims=True)
        turns = _rotations(positions, np.broadcast_to(positions[0], positions.shape))
        rotated, forces = positions @ turns, forces @ turns
    flat = rotated.reshape(len(members), -1)
    norms = (flat**2).sum(axis=1)
    squared = norms[:, None] + norms[None, :] - 2.0 * flat @ flat.T
    squared[squared < 1e-10] = np.inf  # itself, and duplicates
    nearest = squared.argmin(axis=1)
    for first, second in {(min(i, j), max(i, j)) for i, j in enumerate(nearest.tolist())}:
        if not np.isfinite(squared[first, second]):
            continue
        other, pull = rotated[second], forces[second]
        if free:
            turn = _rotations(other[None], rotated[first][None])[0]
            other, pull = other @ turn, pull @ turn
        displacement = other - rotated[first]
        work = -0.5 * float(((forces[first] + pull) * displacement).sum())
        yield float(np.linalg.norm(displacement)), float(energy[second] - energy[first]), work


def _rotations(moved: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(F, 3, 3) proper rotations U that bring moved (F, A, 3) @ U closest to target (Kabsch, 1976)."""
    u, _, vt = np.linalg.svd(np.swapaxes(moved, 1, 2) @ target)
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    return u @ vt
