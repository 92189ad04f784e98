"""Formulas, electrons and lowest spins of lists of element symbols."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ase.data import atomic_numbers

_ELECTRONEGATIVE = ("B", "Si", "C", "P", "N", "H", "Se", "S", "O", "I", "Br", "Cl", "F")
"""The end of the IUPAC element sequence, for formulas without carbon: LiH, NH3, H2O, HF."""


def formula(symbols: Sequence[str]) -> str:
    """Chemical formula of the symbols, e.g. "LiH", "H2O", "C2H6O"."""
    counts = Counter(symbols)
    if "C" in counts and "H" in counts:
        order = ["C", "H", *sorted(set(counts) - {"C", "H"})]
    else:
        order = sorted(set(counts) - set(_ELECTRONEGATIVE)) + [s for s in _ELECTRONEGATIVE if s in counts]
    return "".join(symbol + (str(counts[symbol]) if counts[symbol] > 1 else "") for symbol in order)


def count_electrons(symbols: Sequence[str], charge: int) -> int:
    """Number of electrons of the nuclei `symbols` at total charge `charge`."""
    return sum(atomic_numbers[symbol] for symbol in symbols) - charge


def lowest_spin(symbols: Sequence[str], charge: int) -> int:
    """Lowest N_up - N_down that the number of electrons allows: 0 or 1."""
    return count_electrons(symbols, charge) % 2
