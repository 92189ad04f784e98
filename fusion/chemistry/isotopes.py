"""Masses of isotopes, and the symbols D and T."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from ase.data import atomic_masses, atomic_numbers

if TYPE_CHECKING:
    from ase import Atoms

HYDROGENS = {"D": 2, "T": 3}
"""Symbol -> number of nucleons."""
_MASSES = {
    ("H", 1): 1.00782503, ("H", 2): 2.01410178, ("H", 3): 3.01604928, ("Li", 6): 6.01512289, ("Li", 7): 7.01600344,
    ("B", 10): 10.0129369, ("B", 11): 11.0093054, ("C", 12): 12.0, ("C", 13): 13.0033548, ("C", 14): 14.0032420,
    ("N", 14): 14.0030740, ("N", 15): 15.0001089, ("O", 16): 15.9949146, ("O", 17): 16.9991317, ("O", 18): 17.9991596,
    ("Si", 29): 28.9764947, ("S", 33): 32.9714589, ("S", 34): 33.9678670, ("Cl", 35): 34.9688527,
    ("Cl", 37): 36.9659026, ("Br", 79): 78.9183376, ("Br", 81): 80.9162897,
}  # fmt: skip
"""(symbol, nucleons) -> mass in daltons (AME2020, rounded)."""


def mass(symbol: str, nucleons: int) -> float:
    """Mass of an isotope in daltons, or its mass number if not tabulated; zero nucleons mean the natural mixture."""
    natural = float(atomic_masses[atomic_numbers[symbol]])
    return _MASSES.get((symbol, nucleons), float(nucleons)) if nucleons else natural


def element(symbol: str) -> str:
    """Return the element's symbol: H for D and T."""
    return "H" if symbol in HYDROGENS else symbol


def masses(symbols: Sequence[str]) -> np.ndarray | None:
    """Masses (A,) in daltons if the symbols include D or T; all others are natural mixtures. Otherwise None."""
    if not any(symbol in HYDROGENS for symbol in symbols):
        return None
    return np.array([mass(element(symbol), HYDROGENS.get(symbol, 0)) for symbol in symbols])


def set_masses(atoms: Atoms, symbols: Sequence[str]) -> None:
    """Set the masses of `atoms` whose `symbols` include D or T."""
    if (values := masses(symbols)) is not None:
        atoms.set_masses(values)
