"""Cartesian coordinates that constraints of ASE hold in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms

_PARALLEL = 1e-6


def held(atoms: Atoms, name: str) -> np.ndarray | None:
    """Mask (A, 3), True for every coordinate that is held; None where all may move.

    Fixed atoms and coordinates, and planes, lines and lattice directions along the Cartesian axes. Raises InputError
    naming a constraint of another kind.
    """
    mask = np.zeros((len(atoms), 3), dtype=bool)
    for constraint in atoms.constraints:
        allowed = _allowed(constraint, np.asarray(atoms.cell))
        if allowed is None:
            raise InputError(
                f"{name} has the constraint {type(constraint).__name__}, which cannot be kept: only atoms and "
                "Cartesian coordinates can be fixed (FixAtoms, FixCartesian); take it out of the file"
            )
        mask[np.atleast_1d(constraint.get_indices())] |= ~allowed
    return mask if mask.any() else None


def _allowed(constraint: Any, cell: np.ndarray) -> np.ndarray | None:
    """Cartesian coordinates (3,) in which the atoms of a constraint may move; None where these are not the axes."""
    kind = type(constraint).__name__
    if kind == "FixAtoms":
        return np.zeros(3, dtype=bool)
    if kind == "FixCartesian":
        return ~np.asarray(constraint.mask, dtype=bool)
    if kind == "FixScaled":
        return _spanned(cell[~np.asarray(constraint.mask, dtype=bool)])
    if kind == "FixedLine":
        return _spanned(np.atleast_2d(constraint.dir))
    if kind == "FixedPlane":
        normal = _spanned(np.atleast_2d(constraint.dir))
        return None if normal is None else ~normal
    return None


def _spanned(directions: np.ndarray) -> np.ndarray | None:
    """The axes (3,) whose span is that of the independent `directions` (N, 3); None where it is not one of axes."""
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    axes = (np.abs(directions) > _PARALLEL * lengths).any(axis=0)
    return axes if int(axes.sum()) == len(directions) else None
