"""What energies are relative to, which decides what they may be compared with."""

from __future__ import annotations

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


def of_card(stated: str, kind: str) -> str:
    """The zero of the energies of a published model of a kind, from what its card states."""
    if stated == TOTAL:
        return of_kind(kind)
    return CORRECTION if stated == DIFFERENCE else ATOMISATION


def of_kind(kind: str) -> str:
    """The zero of the energies of methods of a kind where nothing else is stated."""
    return OWN if kind == "potential" else TOTAL


def of(method: Any) -> str:
    """The zero of a method's energies: its `energy_zero`, else that of its kind."""
    stated = getattr(method, "energy_zero", None)
    return of_kind(method.kind) if stated is None else str(stated)
