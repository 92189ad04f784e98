"""Unit conversions: fusion computes in hartree and bohr; a conversion is a multiplication by one of these factors.

The values are those of `ase.units`, so that a conversion to ASE and back does not change a number.
"""

from typing import Final

from ase import units as _ase

ANGSTROM_PER_BOHR: Final[float] = float(_ase.Bohr)
BOHR_PER_ANGSTROM: Final[float] = 1.0 / ANGSTROM_PER_BOHR
EV_PER_HARTREE: Final[float] = float(_ase.Hartree)
HARTREE_PER_EV: Final[float] = 1.0 / EV_PER_HARTREE
KCAL_MOL_PER_HARTREE: Final[float] = float(_ase.Hartree * _ase.mol / _ase.kcal)
KJ_MOL_PER_HARTREE: Final[float] = float(_ase.Hartree * _ase.mol / _ase.kJ)
CM1_PER_HARTREE: Final[float] = float(_ase.Hartree / _ase.invcm)
ELECTRON_MASSES_PER_DALTON: Final[float] = float(_ase._amu / _ase._me)
HARTREE_PER_KELVIN: Final[float] = float(_ase.kB / _ase.Hartree)
FEMTOSECONDS_PER_ATOMIC_TIME: Final[float] = float(_ase.AUT / _ase.fs)
DEBYE_PER_ATOMIC_DIPOLE: Final[float] = float(_ase.Bohr / _ase.Debye)
MILLIHARTREE_PER_HARTREE: Final[float] = 1000.0

EV_ANGSTROM_PER_HARTREE_BOHR: Final[float] = EV_PER_HARTREE / ANGSTROM_PER_BOHR
"""Forces: hartree/bohr to eV/Angstrom."""

EV_ANGSTROM2_PER_HARTREE_BOHR2: Final[float] = EV_PER_HARTREE / ANGSTROM_PER_BOHR**2
"""Hessians: hartree/bohr^2 to eV/Angstrom^2."""

EV_ANGSTROM3_PER_HARTREE_BOHR3: Final[float] = EV_PER_HARTREE / ANGSTROM_PER_BOHR**3
"""Stress: hartree/bohr^3 to eV/Angstrom^3."""

GPA_PER_HARTREE_BOHR3: Final[float] = EV_ANGSTROM3_PER_HARTREE_BOHR3 / float(_ase.GPa)

_BOHR_PER_UNIT: Final[dict[str, float]] = {"bohr": 1.0, "angstrom": BOHR_PER_ANGSTROM}


def bohr_per(unit: str) -> float:
    """Value of one `unit` of length, "bohr" or "angstrom" in any case, in bohr. Raises KeyError for another name."""
    return _BOHR_PER_UNIT[unit.lower()]
