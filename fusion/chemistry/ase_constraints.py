"""Fixed Cartesian coordinates from ASE constraints and from columns of structure files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.chemistry.structure_state import normal
from fusion.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms

_PARALLEL = 1e-6
_HELD = frozenset({"fixed", "frozen", "freeze", "fix", "constrained", "isfixed", "isfrozen"})
_MOVING = frozenset({"movemask", "movable", "moveable", "mobile", "selectivedynamics", "relaxmask"})
_LISTED = frozenset({"fixedatoms", "frozenatoms", "fixatoms", "freezeatoms", "fixedindices", "frozenindices"})
"""Keys, compared by `normal`: columns that fix atoms, columns that let atoms move, lists of fixed atoms."""


def held(atoms: Atoms, name: str) -> np.ndarray | None:
    """Mask (A, 3), True for every fixed coordinate; None if all coordinates may move.

    It covers fixed atoms and coordinates, and planes, lines and lattice directions along the Cartesian axes. Raises
    InputError that names a constraint of another kind.
    """
    mask = _columns(atoms, name)
    for constraint in atoms.constraints:
        allowed = _allowed(constraint, np.asarray(atoms.cell))
        if allowed is None:
            raise InputError(
                f"{name} has the constraint {type(constraint).__name__}, which is not supported: only atoms and "
                "Cartesian coordinates can be fixed (FixAtoms, FixCartesian); remove it from the file"
            )
        mask[np.atleast_1d(constraint.get_indices())] |= ~allowed
    return mask if mask.any() else None


def _columns(atoms: Atoms, name: str) -> np.ndarray:
    """Mask (A, 3) from columns of other programs. Raises InputError for a column of another form, or for a list."""
    mask = np.zeros((len(atoms), 3), dtype=bool)
    for key, values in atoms.arrays.items():
        if (normalised := normal(key)) not in _HELD | _MOVING:
            continue
        flags = np.asarray(values)
        boolean = flags.dtype.kind == "b" or (flags.dtype.kind in "iuf" and np.isin(flags, (0, 1)).all())
        if not boolean or flags.shape not in ((len(atoms),), (len(atoms), 3)):
            raise InputError(f"{name}: its column {key} must be true or false, or 1 or 0, for each atom or coordinate")
        held = flags.astype(bool) == (normalised in _HELD)
        mask |= held if held.ndim == 2 else held[:, None]
    listed = next((key for key in atoms.info if normal(key) in _LISTED), None)
    if listed is not None:
        raise InputError(
            f"{name}: {listed}={atoms.info[listed]} is not supported; fix atoms by a column move_mask:L:1 with F"
        )
    return mask


def _allowed(constraint: Any, cell: np.ndarray) -> np.ndarray | None:
    """Cartesian axes (3,) along which the atoms of a constraint may move; None if the directions are not axes."""
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
    """Axes (3,) that span the same space as the independent `directions` (N, 3); None if there are none."""
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    axes = (np.abs(directions) > _PARALLEL * lengths).any(axis=0)
    return axes if int(axes.sum()) == len(directions) else None
