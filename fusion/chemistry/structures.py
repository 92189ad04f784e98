"""Conversion of ASE Atoms to systems, with cell, charge, spin, masses and fixed coordinates.

`system=`, reactions, data sets, guesses of tasks and the ASE calculator all use it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fusion.chemistry import ase_constraints, structure_state
from fusion.chemistry.formulas import formula, lowest_spin
from fusion.chemistry.system import System
from fusion.chemistry.units import BOHR_PER_ANGSTROM
from fusion.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms

_SAME_MASS = 1e-6
_EMPTY = 0.01
"""Fraction of a site that may be empty because of rounding."""


def system_of(
    atoms: Atoms,
    charge: int | None = None,
    spin: int | None = None,
    name: str | None = None,
    remedy: str = "system.charge= and system.multiplicity=",
    constraints: bool = True,
    doubts: bool = True,
) -> System:
    """Convert `atoms` (Angstrom) to a system; the user's `charge` and `spin` override those of the atoms.

    `remedy` names the settings of charge and spin in messages. Without `constraints`, ASE handles those of the atoms.
    With `doubts`, an assumed spin that may be wrong is noted, which takes longer than all else. Raises InputError for
    an unusable charge, spin, constraint, mass or occupancy.
    """
    symbols = atoms.get_chemical_symbols()
    name = name or formula(symbols).lower()
    _check_occupancy(atoms, name)
    try:
        state = structure_state.read(atoms, charge, spin)
    except structure_state.Misstated as error:
        raise InputError(f"{name}: {error}; correct it, or give {remedy}") from None
    x, y, z = (bool(flag) for flag in atoms.pbc)
    system = System(
        name,
        tuple(symbols),
        atoms.get_positions() * BOHR_PER_ANGSTROM,
        state.charge,
        lowest_spin(symbols, state.charge) if state.spin is None else state.spin,
        cell=np.asarray(atoms.cell) * BOHR_PER_ANGSTROM if x or y or z else None,
        pbc=(x, y, z),
        spin_assumed=state.spin is None,
        masses=_masses(atoms, name),
        fixed=ase_constraints.held(atoms, name) if constraints else None,
        notes=(*atoms.info.get(structure_state.NOTES, ()), *state.notes),
    )
    return system.with_spin_note() if doubts else system


def from_atoms(atoms: Atoms, charge: int | None = None, spin: int | None = None, name: str | None = None) -> System:
    """The system that ASE Atoms (Angstrom) describe in Python; `charge` and `spin` go before what the atoms state.

    Raises InputError for what they state and cannot be used.
    """
    return system_of(atoms, charge, spin, name, remedy="charge= and spin=")


def in_state_of(atoms: Atoms, system: System, name: str) -> System:
    """Return `system` with the geometry of `atoms` (Angstrom) from a file.

    The system keeps its masses and fixed coordinates. Raises InputError if the file states another charge or spin.
    """
    try:
        state = structure_state.read(atoms)
    except structure_state.Misstated as error:
        raise InputError(f"{name}: {error}") from None
    if state.charge_stated and state.charge != system.charge:
        raise InputError(f"{name} states the charge {state.charge}, but the system has {system.charge}")
    if state.spin is not None and state.spin != system.spin:
        raise InputError(f"{name} states the multiplicity {state.spin + 1}, but the system has {system.multiplicity}")
    x, y, z = (bool(flag) for flag in atoms.pbc)
    return replace(
        system,
        symbols=tuple(atoms.get_chemical_symbols()),
        positions=atoms.get_positions() * BOHR_PER_ANGSTROM,
        cell=np.asarray(atoms.cell) * BOHR_PER_ANGSTROM if x or y or z else None,
        pbc=(x, y, z),
        reference=None,
        notes=(),
    )


def _masses(atoms: Atoms, name: str) -> np.ndarray | None:
    """Return the stated masses in daltons; None if they are those of the natural mixtures of isotopes.

    They are a column of the atoms, or a list in `info`. Raises InputError for a list of the wrong length.
    """
    from ase.data import atomic_masses

    columns = {structure_state.normal(key): value for key, value in (*atoms.info.items(), *atoms.arrays.items())}
    column = next(
        (columns[key] for key in ("masses", "mass", "atomicmasses") if key in columns and np.ndim(columns[key])), None
    )
    if column is None:  # one number is the mass of the molecule
        return None
    natural = atomic_masses[atoms.numbers]
    try:
        masses = np.asarray(column, dtype=float)
    except (TypeError, ValueError):
        masses = np.zeros(0)
    if masses.shape != natural.shape:
        raise InputError(f"{name}: its masses must be one number of daltons for each of its {len(atoms)} atoms")
    masses = np.where(np.isnan(masses), natural, masses)
    return None if np.allclose(masses, natural, rtol=0.0, atol=_SAME_MASS) else masses


def _check_occupancy(atoms: Atoms, name: str) -> None:
    """Raise InputError for a crystal with sites shared by several elements or partly empty (CIF)."""
    sites = atoms.info.get("occupancy")
    for shares in sites.values() if isinstance(sites, dict) else ():
        if isinstance(shares, dict) and (len(shares) > 1 or any(share < 1 - _EMPTY for share in shares.values())):
            shown = ", ".join(f"{symbol} {share:g}" for symbol, share in shares.items())
            raise InputError(f"{name}: a site is partly occupied ({shown}); write one whole atom for each site")
