"""Fixed coordinates of a system: which coordinates may move, and notes for the user about the fixed ones.

`System.fixed` is the mask of the fixed Cartesian coordinates. Positions (A, 3) in bohr.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.errors import InputError

if TYPE_CHECKING:
    from fusion.chemistry.system import System

_AXES = "xyz"
SAME_BOHR = 2e-3
"""Fixed atoms of two structures nearer than this (0.001 Angstrom) count as being in the same place."""


def hold(system: System, atoms: Iterable[int]) -> System:
    """Return the system with all coordinates of `atoms` (indices from 0) fixed in addition."""
    indices = list(atoms)
    if not indices:
        return system
    fixed = ~free(system)
    fixed[indices] = True
    return replace(system, fixed=fixed)


def free(system: System) -> np.ndarray:
    """Return the mask (A, 3) of the coordinates that may move."""
    return np.ones((len(system.symbols), 3), dtype=bool) if system.fixed is None else ~system.fixed


def placed(system: System, positions: np.ndarray) -> np.ndarray:
    """Return `positions` with every fixed coordinate replaced by that of `system`, to the last bit."""
    return positions if system.fixed is None else np.where(system.fixed, system.positions, positions)


def elsewhere(system: System, positions: np.ndarray) -> list[str]:
    """Return the names of fixed atoms whose `positions` differ from those of `system` by more than 0.001 Angstrom."""
    if system.fixed is None:
        return []
    away = np.where(system.fixed, np.abs(positions - system.positions), 0.0).max(axis=1) > SAME_BOHR
    return [f"{system.symbols[index]}{index + 1}" for index in np.flatnonzero(away).tolist()]


def free_part(system: System, vectors: np.ndarray) -> np.ndarray:
    """Return vectors (A, 3), such as forces, with zeros for fixed coordinates."""
    vectors = np.asarray(vectors).reshape(-1, 3)
    return vectors if system.fixed is None else np.where(system.fixed, 0.0, vectors)


def of_ase(system: System) -> list[Any]:
    """Return ASE constraints that fix the same coordinates; an empty list if all may move."""
    from ase.constraints import FixAtoms, FixCartesian

    if system.fixed is None:
        return []
    all_fixed = system.fixed.all(axis=1)
    constraints: list[Any] = [FixAtoms(np.flatnonzero(all_fixed))] if all_fixed.any() else []
    some_fixed = system.fixed.any(axis=1) & ~all_fixed
    for mask in np.unique(system.fixed[some_fixed], axis=0):
        constraints.append(FixCartesian(np.flatnonzero(some_fixed & (system.fixed == mask).all(axis=1)), mask))
    return constraints


def check_free(system: System, purpose: str) -> None:
    """Raise InputError if every coordinate is fixed; `purpose` names the task for the message."""
    if system.fixed is not None and system.fixed.all():
        raise InputError(f"all atoms of {system.name} are held: nothing is left to {purpose}")


def names(system: System) -> list[str]:
    """Return the names of the fixed atoms: `C1`, or `C1(z)` if only some coordinates are fixed."""
    if system.fixed is None:
        return []
    fixed_atoms = []
    for index in np.flatnonzero(system.fixed.any(axis=1)).tolist():
        row = system.fixed[index]
        axes = "" if row.all() else f"({''.join(axis for axis, held in zip(_AXES, row, strict=True) if held)})"
        fixed_atoms.append(f"{system.symbols[index]}{index + 1}{axes}")
    return fixed_atoms


def isotopes(system: System) -> dict[str, float]:
    """Return the masses (daltons) that differ from the standard atomic weights, by atom: `{"H2": 2.014}`."""
    if system.masses is None:
        return {}
    standard = replace(system, masses=None).nuclear_masses
    differing = np.flatnonzero(np.abs(system.masses - standard) > 1e-3 * standard).tolist()
    return {f"{system.symbols[index]}{index + 1}": float(system.masses[index]) for index in differing}


def notes(system: System) -> tuple[str, ...]:
    """Return the lines for a run's title about fixed atoms and isotopes."""
    fixed_atoms, masses = names(system), [f"{name} {mass:.6g}" for name, mass in isotopes(system).items()]
    lines = []
    if fixed_atoms:
        lines.append(f"{len(fixed_atoms)} atom{'s' if len(fixed_atoms) > 1 else ''} held: {_few(fixed_atoms)}")
    if masses:
        lines.append(f"masses in daltons: {_few(masses, ', ')}")
    return tuple(lines)


def _few(words: list[str], between: str = " ", most: int = 12) -> str:
    return between.join(words if len(words) <= most else [*words[: most - 1], "...", words[-1]])
