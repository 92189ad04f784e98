"""Unit of the energies of a comparison, in tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fusion.chemistry.units import EV_PER_HARTREE, KCAL_MOL_PER_HARTREE


class Unit(NamedTuple):
    """Factor from hartree, symbol, and decimals of a table."""

    factor: float
    symbol: str
    decimals: int


def unit_of(comparison: Mapping[str, Any]) -> Unit:
    """Unit of sums of energies: eV for excitations, kcal/mol for all others."""
    if comparison["kind"] == "excitations":
        return Unit(EV_PER_HARTREE, "eV", 3)
    return Unit(KCAL_MOL_PER_HARTREE, "kcal mol⁻¹", 2)
