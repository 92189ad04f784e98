"""Comparison of energy differences with the work of the forces between similar conformations.

For two conformations of one molecule, dR apart, E2 - E1 = -(F1 + F2) . dR / 2 up to third order in dR. Close pairs in
a data set therefore show the sign of its forces, and their unit relative to that of the energies, without a method.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fusion.datasets.labelled import Labelled

_MOLECULES, _CONFORMATIONS = 60, 400
_TRIED = 600  # molecules; not all can be used, because isomers of a formula differ in the order of their atoms
_FEWEST = 6
_SEED = 22


@dataclass(frozen=True)
class Comparison:
    """Comparison over `pairs` of neighbours: `slope`, dE over the work (1 for correct data), and their correlation."""

    pairs: int
    slope: float
    correlation: float

    @property
    def certain(self) -> bool:
        """True if the correlation is not due to chance: Fisher's z is beyond four standard deviations."""
        bounded = min(abs(self.correlation), 1.0 - 1e-12)
        return self.pairs > 3 and math.atanh(bounded) * math.sqrt(self.pairs - 3) > 4.0


def compare(data: Labelled) -> Comparison | None:
    """Compare energies with forces; None if the data have no forces or too few conformations of any molecule."""
    if data.forces is None:
        return None
    random = np.random.default_rng(_SEED)
    rows = [row for members in _molecules(data, random) for row in _pairs(data, members)]
    if len(rows) < _FEWEST:
        return None
    # The error of the work grows with the third power of the displacement: use the closer half, equally weighted.
    distance, difference, work = np.array(sorted(rows)).T
    close = distance <= np.median(distance)
    difference, work = difference[close] / distance[close], work[close] / distance[close]
    if not (np.abs(work) > 0).any() or not (np.abs(difference) > 0).any():
        return None
    product = float(difference @ work)
    slope = float(np.median(difference[work != 0] / work[work != 0]))
    return Comparison(int(close.sum()), slope, product / float(np.linalg.norm(difference) * np.linalg.norm(work)))


def _molecules(data: Labelled, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield indices of structures with the same atoms in the same order, with energy and forces, by molecule."""
    assert data.forces is not None
    usable = np.flatnonzero(
        np.isfinite(data.energy) & np.isfinite(data.forces[data.offsets[:-1], 0]) & (data.sizes > 1)
    )
    _, place, counts = np.unique(data.group[usable], return_inverse=True, return_counts=True)
    order, ends = np.argsort(place, kind="stable"), np.cumsum(counts)
    n_molecules = 0
    for molecule in random.permutation(np.flatnonzero(counts > 1))[:_TRIED]:
        members = usable[order[ends[molecule] - counts[molecule] : ends[molecule]]]
        members = np.sort(random.permutation(members)[:_CONFORMATIONS])
        members = members[data.sizes[members] == data.sizes[members[0]]]
        numbers = data.numbers[data.atoms(members)].reshape(len(members), -1)
        members = members[(numbers == numbers[0]).all(axis=1)]
        if len(members) > 1:
            n_molecules += 1
            yield members
        if n_molecules == _MOLECULES:
            return


def _pairs(data: Labelled, members: np.ndarray) -> Iterator[tuple[float, float, float]]:
    """Yield (|dR|, dE, work) in bohr, hartree and hartree for each conformation and its nearest neighbour."""
    assert data.forces is not None
    atoms = data.atoms(members)
    positions = np.asarray(data.positions[atoms]).reshape(len(members), -1, 3)
    forces = np.asarray(data.forces[atoms]).reshape(len(members), -1, 3)
    energy = np.asarray(data.energy[members])
    free = data.pbc is None or not data.pbc[members].any()
    rotated = positions
    if free:
        positions = positions - positions.mean(axis=1, keepdims=True)
        turns = rotations(positions, np.broadcast_to(positions[0], positions.shape))
        rotated, forces = positions @ turns, forces @ turns
    flat = rotated.reshape(len(members), -1)
    norms = (flat**2).sum(axis=1)
    squared = norms[:, None] + norms[None, :] - 2.0 * flat @ flat.T
    squared[squared < 1e-10] = np.inf  # the conformation itself, and duplicates
    nearest = squared.argmin(axis=1)
    for first, second in {(min(i, j), max(i, j)) for i, j in enumerate(nearest.tolist())}:
        if not np.isfinite(squared[first, second]):
            continue
        other, other_forces = rotated[second], forces[second]
        if free:
            turn = rotations(other[None], rotated[first][None])[0]
            other, other_forces = other @ turn, other_forces @ turn
        displacement = other - rotated[first]
        work = -0.5 * float(((forces[first] + other_forces) * displacement).sum())
        yield float(np.linalg.norm(displacement)), float(energy[second] - energy[first]), work


def rotations(moved: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Proper rotations U (F, 3, 3) that bring moved (F, A, 3) @ U closest to target (Kabsch, 1976)."""
    u, _, vt = np.linalg.svd(np.swapaxes(moved, 1, 2) @ target)
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    return u @ vt
