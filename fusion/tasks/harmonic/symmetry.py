"""The point group of a molecule, and how many rotations bring it onto itself.

Operations are found by trying all that map one pair of atoms onto another, and the group by counting them: this is
tolerant of the last hundredths of an Angstrom by which a relaxed structure differs from its ideal shape, of which
methods built on degenerate moments (such as pyscf.symm) are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusion.tasks.harmonic.normal_modes import LINEAR, inertia

TOLERANCE_BOHR = 0.04
"""An operation counts if it brings every atom nearer than this to one of its kind (0.02 Angstrom)."""

_MOST_OPERATIONS = 120  # of the largest group, Ih
_HIGHEST_AXIS = 8


@dataclass(frozen=True)
class PointGroup:
    """Schoenflies name, and the symmetry number: of the rotations that exchange equal atoms, unity included."""

    name: str
    symmetry_number: int


def point_group(positions: np.ndarray, kinds: Sequence[Any], tolerance: float = TOLERANCE_BOHR) -> PointGroup:
    """Point group of atoms at positions (A, 3) in bohr; atoms of equal `kinds` (element and mass) are exchangeable."""
    labels = np.array([list(dict.fromkeys(kinds)).index(kind) for kind in kinds])
    centred = positions - positions.mean(axis=0)
    if np.linalg.norm(centred, axis=1).max() < tolerance:
        return PointGroup("Kh", 1)
    moments = np.linalg.eigvalsh(inertia(centred, np.ones(len(centred))))
    if moments[0] <= LINEAR * moments[2]:
        turned = _carried(-np.eye(3), centred, labels, tolerance)
        return PointGroup("C∞v", 1) if turned is None else PointGroup("D∞h", 2)
    operations = list(_operations(centred, labels, tolerance))
    rotations = [operation for operation in operations if np.linalg.det(operation) > 0]
    return PointGroup(_name(operations, rotations), len(rotations))


def _operations(centred: np.ndarray, labels: np.ndarray, tolerance: float) -> Iterator[np.ndarray]:
    """All rotations and improper rotations (3, 3) of the molecule, each once; at least the unit matrix."""
    found: list[np.ndarray] = []
    first, second = _rarest_pair(centred, labels, tolerance)
    target = _frame(centred[first], centred[second])
    length = np.linalg.norm(centred[first] - centred[second])
    for k in _like(first, centred, labels, tolerance):
        for m in _like(second, centred, labels, tolerance):
            if abs(np.linalg.norm(centred[k] - centred[m]) - length) > 2 * tolerance:
                continue
            frame = _frame(centred[k], centred[m])
            for sign in (1.0, -1.0):
                operation = frame @ np.diag([1.0, 1.0, sign]) @ target.T
                refined = _refined(operation, centred, labels, tolerance)
                if refined is not None and all(np.abs(refined - known).max() > 0.1 for known in found):
                    found.append(refined)
                    yield refined
            if len(found) > _MOST_OPERATIONS:
                return


def _refined(operation: np.ndarray, centred: np.ndarray, labels: np.ndarray, tolerance: float) -> np.ndarray | None:
    """The best orthogonal matrix for the permutation that `operation` makes, if it is a symmetry."""
    order = _carried(operation, centred, labels, 5 * tolerance)
    if order is None:
        return None
    left, _, right = np.linalg.svd(centred[order].T @ centred)
    sign = np.linalg.det(operation) * np.linalg.det(left @ right)
    refined = left @ np.diag([1.0, 1.0, np.sign(sign)]) @ right
    away = np.linalg.norm(centred @ refined.T - centred[order], axis=1)
    return refined if away.max() < tolerance else None


def _carried(operation: np.ndarray, centred: np.ndarray, labels: np.ndarray, tolerance: float) -> np.ndarray | None:
    """The atoms onto which `operation` brings each atom, or None if it does not bring all onto different ones."""
    there = centred @ operation.T
    order = np.empty(len(centred), dtype=int)
    for label in np.unique(labels):
        (own,) = np.nonzero(labels == label)
        distances = np.linalg.norm(there[own][:, None] - centred[own][None], axis=-1)
        nearest = distances.argmin(axis=1)
        if distances.min(axis=1).max() > tolerance or len(set(nearest.tolist())) < len(own):
            return None
        order[own] = own[nearest]
    return order


def _rarest_pair(centred: np.ndarray, labels: np.ndarray, tolerance: float) -> tuple[int, int]:
    """Two atoms, not in line with the centre, of which there are fewest alike: so there is least to try."""
    radii = np.linalg.norm(centred, axis=1)
    alike = np.array([len(_like(index, centred, labels, tolerance)) for index in range(len(centred))])
    outside = np.flatnonzero(radii > 0.1 * radii.max())
    first = int(outside[np.argmin(alike[outside])])
    areas = np.linalg.norm(np.cross(centred[first], centred), axis=1)
    beside = np.flatnonzero(areas > 0.1 * areas.max())
    return first, int(beside[np.argmin(alike[beside])])


def _like(index: int, centred: np.ndarray, labels: np.ndarray, tolerance: float) -> np.ndarray:
    """Atoms of the kind, and at the distance from the centre, of one of them."""
    radii = np.linalg.norm(centred, axis=1)
    return np.flatnonzero((labels == labels[index]) & (np.abs(radii - radii[index]) < 2 * tolerance))


def _frame(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Orthonormal columns: along the first vector, in the plane of both, across it."""
    x = one / np.linalg.norm(one)
    z = np.cross(one, other)
    norm = np.linalg.norm(z)
    z = z / norm if norm > 1e-8 else np.roll(x, 1)
    return np.stack([x, np.cross(z, x), z], axis=1)


def _name(operations: list[np.ndarray], rotations: list[np.ndarray]) -> str:
    """The group by its number of rotations, their highest order, and the kinds of improper operations."""
    number, highest = len(rotations), max(_order(rotation) for rotation in rotations)
    improper = [operation for operation in operations if np.linalg.det(operation) < 0]
    inversion = any(abs(np.trace(operation) + 3.0) < 0.1 for operation in improper)
    mirrors = sum(abs(np.trace(operation) - 1.0) < 0.1 for operation in improper)
    cubic = {(12, 3): "T", (24, 4): "O", (60, 5): "I"}.get((number, highest))
    if cubic is not None:
        suffix = "" if not improper else "h" if inversion or cubic != "T" else "d"
        return cubic + suffix
    if number == 2 * highest and highest > 1:
        if not improper:
            return f"D{highest}"
        return f"D{highest}h" if inversion == (highest % 2 == 0) else f"D{highest}d"
    if highest == 1:
        return "Ci" if inversion else "Cs" if mirrors else "C1"
    if not improper:
        return f"C{highest}"
    return f"C{highest}v" if mirrors == highest else f"C{highest}h" if mirrors == 1 else f"S{2 * highest}"


def _order(rotation: np.ndarray) -> int:
    """The number of times after which a rotation is none."""
    power = rotation
    for order in range(1, _HIGHEST_AXIS + 1):
        if np.abs(power - np.eye(3)).max() < 0.2:
            return order
        power = power @ rotation
    return 1
