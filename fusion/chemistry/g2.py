"""The G2/97 collection of small molecules with measured heats of formation, as ASE carries it.

Raghavachari, Redfern, Pople, J. Chem. Phys. 106, 1063 (1997); Curtiss, Raghavachari, Redfern, Pople, the same volume,
page 1063; Staroverov, Scuseria, Tao, Perdew, J. Chem. Phys. 119, 12129 (2003) for the molecules' thermal corrections.
Geometries are MP2(full)/6-31G(d).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from ase.data import covalent_radii

from fusion.chemistry.constraints import isotopes
from fusion.chemistry.formulas import formula
from fusion.chemistry.system import System
from fusion.chemistry.units import BOHR_PER_ANGSTROM, KCAL_MOL_PER_HARTREE
from fusion.errors import InputError

ROOM_K = 298.15
_GAS = 1.987204259e-3  # kcal/mol/K
_SPIN_ORBIT_MILLIHARTREE = {
    "B": -0.05,
    "C": -0.14,
    "O": -0.36,
    "F": -0.61,
    "Al": -0.34,
    "Si": -0.68,
    "S": -0.89,
    "Cl": -1.34,
}
SOURCE = "G2/97, Curtiss et al. 1997 and Staroverov et al. 2003"


@dataclass(frozen=True)
class Measured:
    """Measured heats of formation of a molecule at 0 and 298.15 K, hartree.

    `thermal`, H(298.15 K) - H(0 K), and the zero-point energy (both scaled B3LYP) relate them to 0 K and to energies
    without vibrations.
    """

    formation_0: float
    formation_298: float
    thermal: float
    zero_point: float


def names() -> list[str]:
    """Names of the molecules (`H2O`, `CH3CH2OH`, ...) and atoms, as the collection spells them."""
    return sorted(_data())


def molecules() -> list[str]:
    """Names of the molecules without the atoms."""
    return [name for name in names() if len(_data()[name]["positions"]) > 1]


def system(name: str) -> System:
    """Return the molecule or atom of that name in its electronic ground state. Raises InputError for another name."""
    from ase.symbols import string2symbols

    if name not in _data():
        from fusion.config.options import suggestion

        raise InputError(f"no molecule {name!r} in the G2 collection.{suggestion(name, names())}")
    entry = _data()[name]
    spin = round(abs(sum(entry.get("magmoms") or [0.0])))
    positions = [[BOHR_PER_ANGSTROM * coordinate for coordinate in place] for place in entry["positions"]]
    return System(name, tuple(string2symbols(entry["symbols"])), positions, spin=spin)  # type: ignore[arg-type]


def measured(name: str) -> Measured | None:
    """Return the experimental data of the molecule or atom of that name; None if it is not in the collection."""
    from ase.symbols import string2symbols

    entry = _data().get(name)
    if entry is None:
        return None
    symbols = string2symbols(entry["symbols"])
    elements = KCAL_MOL_PER_HARTREE * elements_thermal(symbols)
    if len(symbols) == 1:  # the tabulated value of an atom is that at 0 K
        thermal = 2.5 * _GAS * ROOM_K
        values = entry["enthalpy"], entry["enthalpy"] + thermal - elements, thermal, 0.0
    else:
        thermal = entry["thermal correction"]
        values = entry["enthalpy"] - thermal + elements, entry["enthalpy"], thermal, entry["ZPE"]
    return Measured(*(value / KCAL_MOL_PER_HARTREE for value in values))


def recognised(molecule: System) -> str | None:
    """Name of the molecule or atom of the collection with the same bonds and spin as a neutral `molecule`.

    Bonds are shorter than 1.25 times the sum of covalent radii. None if there is no such molecule, and for isotopes.
    """
    if molecule.charge or any(molecule.pbc) or isotopes(molecule):
        return None
    return _by_bonds().get((_bonds(molecule), molecule.spin))


@cache
def _by_bonds() -> dict[tuple[str, int], str]:
    names_by_bonds = {}
    for name in names():
        molecule = system(name)
        names_by_bonds[_bonds(molecule), molecule.spin] = name
    return names_by_bonds


def _bonds(molecule: System) -> str:
    """Text that is equal for molecules with the same bonds (Weisfeiler-Leman refinement of the elements)."""
    from hashlib import sha256

    radii = np.array([covalent_radii[number] for number in molecule.numbers]) * BOHR_PER_ANGSTROM
    distances = np.linalg.norm(molecule.positions[:, None] - molecule.positions[None, :], axis=-1)
    bonded = (distances < 1.25 * (radii[:, None] + radii[None, :])) & ~np.eye(len(radii), dtype=bool)
    labels = list(molecule.symbols)
    for _ in labels:
        joined = [
            f"{label}({','.join(sorted(labels[j] for j in np.flatnonzero(row)))})"
            for label, row in zip(labels, bonded, strict=True)
        ]
        labels = [sha256(text.encode()).hexdigest()[:16] for text in joined]
    return f"{molecule.formula}:{','.join(sorted(labels))}"


def atoms_formation_0(symbols: Sequence[str]) -> float:
    """Sum of the measured heats of formation of gaseous atoms at 0 K, hartree. Raises InputError."""
    return _of_atoms(symbols, "enthalpy")


def elements_thermal(symbols: Sequence[str]) -> float:
    """Sum of H(298.15 K) - H(0 K) of the elements in their standard states per atom, hartree. Raises InputError."""
    return _of_atoms(symbols, "thermal correction")


def knows(symbols: Sequence[str]) -> bool:
    """True if the collection has data for all these atoms."""
    return all(len(_data().get(symbol, {}).get("positions", ())) == 1 for symbol in symbols)


def spin_orbit(symbols: Sequence[str]) -> float:
    """Sum of the spin-orbit corrections to the energies of these atoms, hartree, from measured levels.

    L. A. Curtiss, K. Raghavachari, P. C. Redfern, V. Rassolov, J. A. Pople, J. Chem. Phys. 109, 7764 (1998), table I.
    """
    return sum(1e-3 * _SPIN_ORBIT_MILLIHARTREE.get(symbol, 0.0) for symbol in symbols)


def _of_atoms(symbols: Sequence[str], key: str) -> float:
    if not knows(symbols):
        raise InputError(
            f"no measured heats of formation of the atoms of {formula(symbols)}; they are known for "
            + " ".join(name for name in names() if len(_data()[name]["positions"]) == 1)
        )
    return sum(float(_data()[symbol][key]) for symbol in symbols) / KCAL_MOL_PER_HARTREE


@cache
def _data() -> dict[str, dict[str, Any]]:
    from ase.data import g2_1, g2_2

    return {**g2_2.data, **g2_1.data}
