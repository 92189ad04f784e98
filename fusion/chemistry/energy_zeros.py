"""Zeros of energies, which decide what energies may be compared with."""

from __future__ import annotations

from typing import Final

TOTAL: Final = "total"
"""Separate electrons and nuclei: comparable with total energies of the literature and of other methods."""
ATOMISATION: Final = "atomization"
"""Separate atoms."""
OWN: Final = "own"
"""The method's own zero, such as the atoms of its training set: only differences for the same atoms have meaning."""
CORRECTION: Final = "correction"
"""Separate molecules: a correction such as dispersion, to be added to an energy with a zero."""
DIFFERENCE: Final = "difference"
"""Difference to a cheaper method, of labels and of models trained on them: to be added to that method's energy."""


def called(zero: str | None) -> str:
    """Return the name of an energy with that zero."""
    return "atomisation energy" if zero == ATOMISATION else "energy"


def of_card(stated: str | None, kind: str) -> str:
    """Return the zero of a model's energies from its kind and the zero on its card, None for a model without a card."""
    if stated is None or stated == TOTAL:
        return of_kind(kind)
    return CORRECTION if stated == DIFFERENCE else ATOMISATION


def of_kind(kind: str) -> str:
    """Return the default zero of the energies of a kind of methods."""
    return OWN if kind == "potential" else TOTAL
