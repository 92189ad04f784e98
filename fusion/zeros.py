"""What energies are relative to, which decides what they may be compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

TOTAL: Final = "total"
"""Separate electrons and nuclei: comparable with total energies of the literature and of other methods."""
ATOMISATION: Final = "atomization"
"""Separate atoms."""
OWN: Final = "own"
"""Something of the method's own, such as the atoms of a training set: only differences of the same atoms mean much."""
CORRECTION: Final = "correction"
"""Separate molecules: a correction such as dispersion, to be added to an energy with a zero."""
DIFFERENCE: Final = "difference"
"""Of labels and of models that have learned them: what is to be added to a cheaper method, a correction."""


def called(zero: str | None) -> str:
    """The name of an energy with that zero."""
    return "atomisation energy" if zero == ATOMISATION else "energy"


def of(method: Any) -> str:
    """What a method's energies are relative to: as it says itself in `energy_zero`, as the card of its model says, or
    as its kind implies."""
    stated = getattr(method, "energy_zero", None)
    if stated is not None:
        return str(stated)
    weights = getattr(method, "weights", None)
    if isinstance(weights, Mapping) and weights.get("name"):
        from fusion import zoo

        stated = zoo.find(f"{weights['name']}@{weights['version']}").energy_zero
        if stated != TOTAL:
            return CORRECTION if stated == DIFFERENCE else ATOMISATION
    return OWN if method.kind == "potential" else TOTAL
