"""Checks of the cells of periodic systems."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fusion.chemistry.units import ANGSTROM_PER_BOHR

THINNEST_ANGSTROM = 0.5
"""Smallest distance between images of a lattice plane; thinner cells are refused, since atoms are further apart."""
DENSEST_ANGSTROM3 = 0.5
"""Smallest volume per atom of a cell with several atoms; hydrogen at 500 GPa has 1.2."""
LONGEST_ANGSTROM = 1e6


def fault(cell: np.ndarray | None, pbc: Sequence[bool], atoms: int) -> str | None:
    """Describe the fault of a `cell` (3, 3) in bohr for that number of atoms; None for a good cell.

    Only the vectors of periodic directions count.
    """
    if not any(pbc):
        return None
    along = "".join(axis for axis, periodic in zip("xyz", pbc, strict=True) if periodic)
    if cell is None:
        return f"is periodic along {along}, but has no cell"
    vectors = np.asarray(cell, dtype=float)[np.asarray(pbc, dtype=bool)] * ANGSTROM_PER_BOHR
    if not np.isfinite(np.asarray(cell)).all():
        return "has a cell with a component that is not a finite number"
    lengths = np.linalg.norm(vectors, axis=1)
    if not lengths.all():
        return f"is periodic along {along}, but a cell vector is zero"
    if lengths.max() > LONGEST_ANGSTROM:
        return f"has a cell vector of {lengths.max():.3g} Angstrom; at most {LONGEST_ANGSTROM:.0e} are allowed"
    content = float(np.sqrt(max(np.linalg.det(vectors @ vectors.T), 0.0)))  # length, area or volume
    if content < 1e-6 * lengths.prod():
        return "has cell vectors that are linearly dependent"
    heights = 1.0 / np.linalg.norm(np.linalg.pinv(vectors), axis=0)
    if atoms and heights.min() < THINNEST_ANGSTROM:
        return f"has a cell of {heights.min():.3g} Angstrom thickness; at least {THINNEST_ANGSTROM} are needed"
    if len(vectors) == 3 and atoms > 1 and content < DENSEST_ANGSTROM3 * atoms:
        return f"has a cell of {content:.3g} cubic Angstrom, too small for its {atoms} atoms"
    return None
