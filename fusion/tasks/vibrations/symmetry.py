"""Point group and symmetry number of a molecule.

All operations that map one pair of atoms onto another are tried, and counting them gives the group. This tolerates the
hundredths of an Angstrom by which a relaxed structure deviates from its ideal shape. Methods built on degenerate
moments of inertia (such as pyscf.symm) do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusion.tasks.geometry.normal_modes import LINEAR, inertia

TOLERANCE_BOHR = 0.04
"""Largest distance between a transformed atom and an equal one for which an operation counts (0.02 Angstrom)."""

_MOST_OPERATIONS = 120  # of the largest group, Ih
_HIGHEST_AXIS = 8


@dataclass(frozen=True)
class PointGroup:
    """Schoenflies name, and the symmetry number: the number of proper rotations, identity included."""

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
        inverted = _images(-np.eye(3), centred, labels, tolerance)
        return PointGroup("C∞v", 1) if inverted is None else PointGroup("D∞h", 2)
    operations = list(_operations(centred, labels, tolerance))
    rotations = [operation for operation in operations if np.linalg.det(operation) > 0]
    return PointGroup(_name(operations, rotations), len(rotations))


def _operations(centred: np.ndarray, labels: np.ndarray, tolerance: float) -> Iterator[np.ndarray]:
    """Yield all proper and improper rotations (3, 3) of the molecule, each once; at least the unit matrix."""
    operations: list[np.ndarray] = []
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
                if refined is not None and all(np.abs(refined - accepted).max() > 0.1 for accepted in operations):
                    operations.append(refined)
                    yield refined
            if len(operations) > _MOST_OPERATIONS:
                return


def _refined(operation: np.ndarray, centred: np.ndarray, labels: np.ndarray, tolerance: float) -> np.ndarray | None:
    """Best orthogonal matrix for the permutation of atoms by `operation`; None if this is no symmetry."""
    order = _images(operation, centred, labels, 5 * tolerance)
    if order is None:
        return None
    u, _, vt = np.linalg.svd(centred[order].T @ centred)
    sign = np.linalg.det(operation) * np.linalg.det(u @ vt)
    refined = u @ np.diag([1.0, 1.0, np.sign(sign)]) @ vt
    deviations = np.linalg.norm(centred @ refined.T - centred[order], axis=1)
    return refined if deviations.max() < tolerance else None


def _images(operation: np.ndarray, centred: np.ndarray, labels: np.ndarray, tolerance: float) -> np.ndarray | None:
    """Index of the atom onto which `operation` maps each atom; None if it is no permutation of equal atoms."""
    transformed = centred @ operation.T
    order = np.empty(len(centred), dtype=int)
    for label in np.unique(labels):
        (equal,) = np.nonzero(labels == label)
        distances = np.linalg.norm(transformed[equal][:, None] - centred[equal][None], axis=-1)
        nearest = distances.argmin(axis=1)
        if distances.min(axis=1).max() > tolerance or len(set(nearest.tolist())) < len(equal):
            return None
        order[equal] = equal[nearest]
    return order


def _rarest_pair(centred: np.ndarray, labels: np.ndarray, tolerance: float) -> tuple[int, int]:
    """Two atoms, not in line with the centre, with the fewest equivalent candidates: fewest operations to try."""
    radii = np.linalg.norm(centred, axis=1)
    candidates = np.array([len(_like(index, centred, labels, tolerance)) for index in range(len(centred))])
    off_centre = np.flatnonzero(radii > 0.1 * radii.max())
    first = int(off_centre[np.argmin(candidates[off_centre])])
    areas = np.linalg.norm(np.cross(centred[first], centred), axis=1)
    off_line = np.flatnonzero(areas > 0.1 * areas.max())
    return first, int(off_line[np.argmin(candidates[off_line])])


def _like(index: int, centred: np.ndarray, labels: np.ndarray, tolerance: float) -> np.ndarray:
    """Atoms of the same kind, and at the same distance from the centre, as the atom `index`."""
    radii = np.linalg.norm(centred, axis=1)
    return np.flatnonzero((labels == labels[index]) & (np.abs(radii - radii[index]) < 2 * tolerance))


def _frame(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Orthonormal columns: along the first vector, in the plane of both, and normal to the plane."""
    x = first / np.linalg.norm(first)
    z = np.cross(first, second)
    norm = np.linalg.norm(z)
    z = z / norm if norm > 1e-8 else np.roll(x, 1)
    return np.stack([x, np.cross(z, x), z], axis=1)


def _name(operations: list[np.ndarray], rotations: list[np.ndarray]) -> str:
    """Schoenflies name from the number of rotations, their highest order and the kinds of improper operations."""
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
    """Order of a rotation: the smallest power that is the identity; 1 if there is none up to the highest axis."""
    power = rotation
    for order in range(1, _HIGHEST_AXIS + 1):
        if np.abs(power - np.eye(3)).max() < 0.2:
            return order
        power = power @ rotation
    return 1
