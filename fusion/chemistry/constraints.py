"""Coordinates that stay where they are: which of a system's coordinates may move, and what users are told of the rest.

`System.fixed` says which Cartesian coordinates are held. Positions (A, 3) in bohr.
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
"""Held atoms of two structures nearer than this (0.001 Angstrom) are in one place."""


def hold(system: System, atoms: Iterable[int]) -> System:
    """Return the system with all coordinates of `atoms` (indices from 0) held as well."""
    indices = list(atoms)
    if not indices:
        return system
    fixed = ~free(system)
    fixed[indices] = True
    return replace(system, fixed=fixed)


def free(system: System) -> np.ndarray:
    """Return (A, 3) bool: the coordinates that may move."""
    return np.ones((len(system.symbols), 3), dtype=bool) if system.fixed is None else ~system.fixed


def placed(system: System, positions: np.ndarray) -> np.ndarray:
    """Return positions with every held coordinate where `system` has it, to the last bit."""
    return positions if system.fixed is None else np.where(system.fixed, system.positions, positions)


def elsewhere(system: System, positions: np.ndarray) -> list[str]:
    """Return the held atoms that are not where `system` has them, by more than 0.001 Angstrom."""
    if system.fixed is None:
        return []
    away = np.where(system.fixed, np.abs(positions - system.positions), 0.0).max(axis=1) > SAME_BOHR
    return [f"{system.symbols[index]}{index + 1}" for index in np.flatnonzero(away).tolist()]


def free_part(system: System, vectors: np.ndarray) -> np.ndarray:
    """Return vectors (A, 3), such as forces, with zeros for held coordinates."""
    vectors = np.asarray(vectors).reshape(-1, 3)
    return vectors if system.fixed is None else np.where(system.fixed, 0.0, vectors)


def of_ase(system: System) -> list[Any]:
    """Return ASE's constraints that hold the same coordinates; none where all may move."""
    from ase.constraints import FixAtoms, FixCartesian

    if system.fixed is None:
        return []
    whole = system.fixed.all(axis=1)
    found: list[Any] = [FixAtoms(np.flatnonzero(whole))] if whole.any() else []
    partly = system.fixed.any(axis=1) & ~whole
    for mask in np.unique(system.fixed[partly], axis=0):
        found.append(FixCartesian(np.flatnonzero(partly & (system.fixed == mask).all(axis=1)), mask))
    return found


def check_free(system: System, purpose: str) -> None:
    """Raise InputError where every coordinate is held: `purpose` says what would move."""
    if system.fixed is not None and system.fixed.all():
        raise InputError(f"all atoms of {system.name} are held: nothing is left to {purpose}")


def names(system: System) -> list[str]:
    """Return the held atoms as `C1`, or `C1(z)` where only some of the coordinates are held."""
    if system.fixed is None:
        return []
    found = []
    for index in np.flatnonzero(system.fixed.any(axis=1)).tolist():
        row = system.fixed[index]
        axes = "" if row.all() else f"({''.join(axis for axis, held in zip(_AXES, row, strict=True) if held)})"
        found.append(f"{system.symbols[index]}{index + 1}{axes}")
    return found


def isotopes(system: System) -> dict[str, float]:
    """Return the atoms whose masses (daltons) differ from the standard atomic weights: `{"H2": 2.014}`."""
    if system.masses is None:
        return {}
    standard = replace(system, masses=None).nuclear_masses
    differing = np.flatnonzero(np.abs(system.masses - standard) > 1e-3 * standard).tolist()
    return {f"{system.symbols[index]}{index + 1}": float(system.masses[index]) for index in differing}


def notes(system: System) -> tuple[str, ...]:
    """Return the lines for a run's title: which atoms are held, which have masses of their own."""
    held, masses = names(system), [f"{name} {mass:.6g}" for name, mass in isotopes(system).items()]
    lines = []
    if held:
        lines.append(f"{len(held)} atom{'s' if len(held) > 1 else ''} held: {_few(held)}")
    if masses:
        lines.append(f"masses in daltons: {_few(masses, ', ')}")
    return tuple(lines)


def _few(words: list[str], between: str = " ", most: int = 12) -> str:
    return between.join(words if len(words) <= most else [*words[: most - 1], "...", words[-1]])
