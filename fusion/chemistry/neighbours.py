"""Pairs of atoms that are near each other."""

from __future__ import annotations

import numpy as np


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
