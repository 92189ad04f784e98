"""Units of energies, lengths, forces, stress and dipoles in data files, by name."""

from __future__ import annotations

from typing import Final

from fusion.chemistry import units
from fusion.errors import InputError

ENERGIES: Final[dict[str, float]] = {
    "eV": units.HARTREE_PER_EV,
    "hartree": 1.0,
    "kcal/mol": 1.0 / units.KCAL_MOL_PER_HARTREE,
    "kJ/mol": 1.0 / units.KJ_MOL_PER_HARTREE,
}
LENGTHS: Final[dict[str, float]] = {"angstrom": units.BOHR_PER_ANGSTROM, "bohr": 1.0}
PRESSURES: Final[dict[str, float]] = {
    "GPa": 1.0 / units.GPA_PER_HARTREE_BOHR3,
    "kbar": 0.1 / units.GPA_PER_HARTREE_BOHR3,
}
DIPOLES: Final[dict[str, float]] = {
    "debye": 1.0 / units.DEBYE_PER_ATOMIC_DIPOLE,
    "e*angstrom": units.BOHR_PER_ANGSTROM,
    "e*bohr": 1.0,
}


def energy(unit: object, setting: str) -> float:
    """Value of one energy `unit` in hartree. Raises InputError that names the setting."""
    return _factor(ENERGIES, unit, setting)


def length(unit: object, setting: str) -> float:
    """Value of one length `unit` in bohr. Raises InputError."""
    return _factor(LENGTHS, unit, setting)


def dipole(unit: object, setting: str) -> float:
    """Value of one dipole `unit` in e bohr. Raises InputError."""
    return _factor(DIPOLES, unit, setting)


def force(unit: object, setting: str) -> float:
    """Value of one force `unit`, such as kcal/mol/angstrom, in hartree/bohr. Raises InputError."""
    of_energy, slash, of_length = str(unit).rpartition("/")
    if not slash or of_length.lower() not in LENGTHS:  # kcal/mol has a slash too
        raise InputError(f"{setting} must be an energy per length, such as eV/angstrom or hartree/bohr, not {unit!r}")
    return energy(of_energy, setting) / length(of_length, setting)


def stress(unit: object, setting: str) -> float:
    """Value of one stress `unit`, GPa, kbar or one like eV/angstrom^3, in hartree/bohr^3. Raises InputError."""
    of_energy, slash, of_length = str(unit).rpartition("/")
    if slash and of_length.endswith("^3"):
        return energy(of_energy, setting) / length(of_length.removesuffix("^3"), setting) ** 3
    for name, value in PRESSURES.items():
        if name.lower() == str(unit).lower():
            return value
    raise InputError(f"{setting} must be {', '.join(PRESSURES)} or an energy per volume, eV/angstrom^3, not {unit!r}")


def named(table: dict[str, float], value: float, tolerance: float) -> str | None:
    """Name of the unit of `table` nearest to `value`; None if it differs by more than a relative `tolerance`."""
    name, size = min(table.items(), key=lambda item: abs(item[1] / value - 1.0))
    return name if abs(size / value - 1.0) < tolerance else None


def forces() -> dict[str, float]:
    """All units of force by name, in hartree/bohr."""
    return {f"{energy}/{length}": e / b for energy, e in ENERGIES.items() for length, b in LENGTHS.items()}


def _factor(table: dict[str, float], unit: object, setting: str) -> float:
    for name, value in table.items():
        if name.lower() == str(unit).lower():
            return value
    raise InputError(f"{setting} must be {', '.join(list(table)[:-1])} or {list(table)[-1]}, not {unit!r}")
