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

from fusion.errors import InputError
from fusion.system import System, formula
from fusion.units import BOHR_PER_ANGSTROM, KCAL_MOL_PER_HARTREE

SOURCE = "G2/97, Curtiss et al. 1997 and Staroverov et al. 2003"


@dataclass(frozen=True)
class Measured:
    """Heats of formation of a molecule at 0 and 298.15 K, hartree, and the thermal part H(298.15 K) - H(0 K) and the
    zero-point energy (both B3LYP, scaled) with which the one at 0 K and energies without vibrations are reached."""

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
    """The molecule or atom of that name, in its electronic ground state. Raises InputError where there is none."""
    from ase.symbols import string2symbols

    if name not in _data():
        from fusion.config import suggestion

        raise InputError(f"no molecule {name!r} in the G2 collection.{suggestion(name, names())}")
    entry = _data()[name]
    spin = round(abs(sum(entry.get("magmoms") or [0.0])))
    positions = [[BOHR_PER_ANGSTROM * coordinate for coordinate in place] for place in entry["positions"]]
    return System(name, tuple(string2symbols(entry["symbols"])), positions, spin=spin)  # type: ignore[arg-type]


def measured(name: str) -> Measured | None:
    """Experiment for the molecule of that name; None for an atom and a name that is not in the collection."""
    from ase.symbols import string2symbols

    entry = _data().get(name)
    if entry is None or len(entry["positions"]) == 1:
        return None
    at_298, thermal = entry["enthalpy"], entry["thermal correction"]
    at_0 = at_298 - thermal + sum(_data()[symbol]["thermal correction"] for symbol in string2symbols(entry["symbols"]))
    zero_point = entry["ZPE"]
    return Measured(*(value / KCAL_MOL_PER_HARTREE for value in (at_0, at_298, thermal, zero_point)))


def atoms_formation_0(symbols: Sequence[str]) -> float:
    """Sum of the measured heats of formation of gaseous atoms at 0 K, hartree. Raises InputError."""
    return _of_atoms(symbols, "enthalpy")


def elements_thermal(symbols: Sequence[str]) -> float:
    """Sum of H(298.15 K) - H(0 K) of the elements in their standard states per atom, hartree. Raises InputError."""
    return _of_atoms(symbols, "thermal correction")


def knows(symbols: Sequence[str]) -> bool:
    """Whether the collection has data of all these atoms."""
    return all(len(_data().get(symbol, {}).get("positions", ())) == 1 for symbol in symbols)


def _of_atoms(symbols: Sequence[str], key: str) -> float:
    if not knows(symbols):
        raise InputError(
            f"no measured heats of formation of the atoms of {formula(symbols)}; they are known of "
            + " ".join(name for name in names() if len(_data()[name]["positions"]) == 1)
        )
    return sum(float(_data()[symbol][key]) for symbol in symbols) / KCAL_MOL_PER_HARTREE


@cache
def _data() -> dict[str, dict[str, Any]]:
    from ase.data import g2_1, g2_2

    return {**g2_2.data, **g2_1.data}
