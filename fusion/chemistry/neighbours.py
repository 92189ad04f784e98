"""Pairs of atoms that are near each other."""

from __future__ import annotations

import numpy as np

_FEW = 100
"""Number of atoms up to which computing all distances is fastest."""


def closest_pair(
    positions: np.ndarray, cell: np.ndarray | None, pbc: tuple[bool, bool, bool]
) -> tuple[int, int, float] | None:
    """Find the two atoms that are closest, the lower index first, and their distance; periodic images included.

    Positions (A, 3) and cell (3, 3) in bohr. None for a single atom, and for more atoms or a cell if no two are within
    4 bohr.
    """
    if cell is None and len(positions) <= _FEW:
        first, second = np.triu_indices(len(positions), k=1)
        distances = np.linalg.norm(positions[first] - positions[second], axis=1)
    else:
        first, second, distances = near_pairs(positions, cell, pbc)
    if not len(distances):
        return None
    closest = int(distances.argmin())
    i, j = sorted((int(first[closest]), int(second[closest])))
    return i, j, float(distances[closest])


def near_pairs(
    positions: np.ndarray, cell: np.ndarray | None, pbc: tuple[bool, bool, bool]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find pairs of atoms within 4 bohr, periodic images included: two arrays of indices and the distances.

    Positions (A, 3) and cell (3, 3) in bohr. Time and memory are linear in the number of atoms.
    """
    import vesin

    search = vesin.NeighborList(cutoff=4.0, full_list=False)  # a much shorter cutoff is slower: it has more cells
    box = np.zeros((3, 3)) if cell is None else np.asarray(cell)
    first, second, distances = search.compute(np.asarray(positions), box, list(pbc), quantities="ijd")
    return first, second, distances
