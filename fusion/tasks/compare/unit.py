"""Unit of the energies of a comparison, in tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fusion.chemistry.units import EV_PER_HARTREE, KCAL_MOL_PER_HARTREE
from fusion.console import units


class Unit(NamedTuple):
    """Factor from hartree, symbol, and decimals of a table."""

    factor: float
    symbol: str
    decimals: int


def unit_of(comparison: Mapping[str, Any]) -> Unit:
    """Unit of sums of energies: that of the setting `units`; by default eV for excitations, kcal/mol for all others."""
    chosen = units.current()
    if not chosen.is_atomic:
        return Unit(chosen.relative.factor, chosen.relative.symbol.replace("/mol", " mol⁻¹"), chosen.relative.decimals)
    if comparison["kind"] == "excitations":
        return Unit(EV_PER_HARTREE, "eV", 3)
    return Unit(KCAL_MOL_PER_HARTREE, "kcal mol⁻¹", 2)
