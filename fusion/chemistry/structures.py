"""Systems from ASE Atoms: everything that a structure states, read in one place.

`system=`, reactions, data sets, guesses of tasks and the ASE calculator take nuclei, cell, charge, spin, masses and
fixed coordinates from here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fusion.chemistry import ase_constraints, structure_state
from fusion.errors import InputError
from fusion.system import System, formula, lowest_spin
from fusion.units import BOHR_PER_ANGSTROM

if TYPE_CHECKING:
    from ase import Atoms

_SAME_MASS = 1e-6


def system_of(
    atoms: Atoms,
    charge: int | None = None,
    spin: int | None = None,
    name: str | None = None,
    remedy: str = "system.charge= and system.multiplicity=",
    constraints: bool = True,
) -> System:
    """The system that `atoms` (Angstrom) describe; the user's `charge` and `spin` go before what they state.

    `remedy`: where the user can set the state, for messages. Without `constraints`, those of the atoms are left to ASE.
    Raises InputError for what is stated and cannot be used.
    """
    symbols = atoms.get_chemical_symbols()
    name = name or formula(symbols).lower()
    try:
        state = structure_state.read(atoms, charge, spin)
    except structure_state.Misstated as error:
        raise InputError(f"{name}: {error}; correct it, or give {remedy}") from None
    x, y, z = (bool(flag) for flag in atoms.pbc)
    return System(
        name,
        tuple(symbols),
        atoms.get_positions() * BOHR_PER_ANGSTROM,
        state.charge,
        lowest_spin(symbols, state.charge) if state.spin is None else state.spin,
        cell=np.asarray(atoms.cell) * BOHR_PER_ANGSTROM if x or y or z else None,
        pbc=(x, y, z),
        spin_assumed=state.spin is None,
        masses=_masses(atoms),
        fixed=ase_constraints.held(atoms, name) if constraints else None,
        notes=(*atoms.info.get(structure_state.NOTES, ()), *state.notes),
    ).with_spin_note()


def in_state_of(atoms: Atoms, system: System, name: str) -> System:
    """The structure `atoms` (Angstrom) of a file as another geometry of `system`, of whose charge and spin it must be.

    The system keeps its masses and fixed coordinates. Raises InputError where the file states another charge or spin.
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


def _masses(atoms: Atoms) -> np.ndarray | None:
    """Masses in daltons where the structure states any that are not those of the natural mixtures of isotopes."""
    from ase.data import atomic_masses

    given = atoms.arrays.get("masses", atoms.arrays.get("mass"))
    if given is None:
        return None
    natural = atomic_masses[atoms.numbers]
    masses = np.asarray(given, dtype=float)
    masses = np.where(np.isnan(masses), natural, masses)
    return None if np.allclose(masses, natural, rtol=0.0, atol=_SAME_MASS) else masses
