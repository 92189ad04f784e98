"""Charge and spin that structures state in `Atoms.info` or a comment line, per atom, or in computed results.

Keys are compared without case, underscores and other punctuation (`Total_Charge` is `totalcharge`). A whole number may
be written as 1, 1.0, "+1" or "1+". `spin` is N_up - N_down in some programs and 2S + 1 in others; the parity of the
electron number fits only one of the two.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

CHARGES = frozenset(
    {
        "charge", "totalcharge", "totcharge", "netcharge", "molecularcharge", "moleculecharge", "molcharge",
        "systemcharge", "ioncharge", "formalcharge", "chargestate", "chrg", "chg", "totalchg", "pubchemtotalcharge",
    }
)  # fmt: skip
MULTIPLICITIES = frozenset(
    {"multiplicity", "mult", "spinmultiplicity", "molecularmultiplicity", "totalmultiplicity", "spinmult"}
)
UNPAIRED = frozenset({"unpaired", "unpairedelectrons", "nunpaired", "numunpaired", "uhf", "nopen"})
SPINS = frozenset({"spin", "totalspin"})
_KEYS = CHARGES | MULTIPLICITIES | UNPAIRED | SPINS | {"q"}

UNREAD = "fusion_unread_format"
"""Key in `Atoms.info` for the format of a file whose charge is not read."""
NOTES = "fusion_notes"
"""Key in `Atoms.info` for notes of a file's reader to the user."""

_CHARGE_ARRAYS = frozenset({"initialcharges", "formalcharges", "formalcharge", "charge"})
_WORDS = ("singlet", "doublet", "triplet", "quartet", "quintet", "sextet", "septet", "octet")
_SIGN_LAST = re.compile(r"(\d*)([+-])")
_PUNCTUATION = re.compile(r"[^a-z0-9]")
_ROUNDED = 0.05
"""Tolerance of the sum of partial charges or moments, which a file may round, from a whole number."""


_Entries = list[tuple[str, str, Any]]
"""Entries of `info` about charge or spin: key, `normal` key, value."""


class Misstated(ValueError):
    """A structure states an unusable charge or spin; the message names it, but not the structure."""


@dataclass(frozen=True)
class State:
    """Total charge, and spin = N_up - N_down or None if not stated; `charge_stated` is False for a default charge."""

    charge: int
    spin: int | None
    charge_stated: bool = True
    notes: tuple[str, ...] = ()


@functools.cache
def normal(key: Any) -> str:
    """Return a key in lower case without punctuation."""
    return _PUNCTUATION.sub("", str(key).lower())


def is_state_key(key: Any) -> bool:
    """True for the keys of `Atoms.info` that state a charge or spin."""
    return normal(key) in _KEYS


def read(atoms: Atoms, charge: int | None = None, spin: int | None = None) -> State:
    """Read the state of `atoms`; the user's `charge` and `spin` override those of the structure.

    A structure's spin belongs to its charge and is not used with another charge. Raises Misstated.
    """
    if charge is not None and spin is not None:
        return State(charge, spin)
    if charge is not None:
        return _at_charge(atoms, charge)
    entries = [(str(key), normal(key), value) for key, value in atoms.info.items() if value is not None]
    entries = [entry for entry in entries if entry[1] in _KEYS]
    total_charge, stated, notes = _charge(atoms, entries)
    if spin is None:
        spin, remarks = _spin(atoms, total_charge, entries)
        notes = (*notes, *remarks)
        electrons = int(atoms.numbers.sum())
        if spin is None and not stated and UNREAD in atoms.info and electrons % 2 and not atoms.pbc.any():
            raise Misstated(
                f"its charge is not read from a file of the format {atoms.info[UNREAD]}, and as a neutral "
                f"molecule it would have an odd number of electrons, {electrons}"
            )
    return State(total_charge, spin, stated, notes)


def whole(value: Any) -> int | None:
    """Convert a whole number to int, also from a numpy scalar, an array of one element or text; otherwise None."""
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    if isinstance(value, np.ndarray):
        value = value.item() if value.size == 1 else None
    if isinstance(value, str):
        text = value.strip()
        reversed_sign = _SIGN_LAST.fullmatch(text)
        value = f"{reversed_sign[2]}{reversed_sign[1] or 1}" if reversed_sign else text
    if value is None or isinstance(value, (bool, np.bool_)):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if number.is_integer() else None


def _at_charge(atoms: Atoms, charge: int) -> State:
    try:
        own = read(atoms)
    except Misstated:  # the user's charge overrides it
        return State(charge, None)
    if own.charge == charge:
        return State(charge, own.spin)
    if own.spin is None:
        return State(charge, None)
    left_out = f"the file's multiplicity {own.spin + 1} belongs to its charge {own.charge} and is not used"
    return State(charge, None, notes=(left_out,))


def _charge(atoms: Atoms, entries: _Entries) -> tuple[int, bool, tuple[str, ...]]:
    """Return the charge, False if it is a default, and notes."""
    totals: dict[str, int] = {}
    for key, kind, value in entries:
        if kind in CHARGES:
            totals[f"{key}={value}"] = _whole(key, value)
        elif kind == "q" and (number := whole(value)):  # a coordinate may have this name
            totals[f"{key}={value}"] = number
    total = _agreed(totals)
    for name, array in atoms.arrays.items():
        if normal(name) in _CHARGE_ARRAYS and np.ndim(array) == 1:
            part = _summed(array, name.replace("_", " "), total, _ROUNDED)
            if total is None and part is not None:
                return (
                    part,
                    True,
                    (f"charge {part:+d}: the sum of the atoms' {name.replace('_', ' ')}",) if part else (),
                )
    if total is not None:
        return total, True, ()
    computed = _computed(atoms, "charges")
    if computed:
        return computed, True, (f"charge {computed:+d}: the sum of the atoms' charges in the file",)
    return 0, False, ()


def _spin(atoms: Atoms, charge: int, entries: _Entries) -> tuple[int | None, tuple[str, ...]]:
    """Return N_up - N_down, or None if it is not stated, and notes."""
    electrons = int(atoms.numbers.sum()) - charge
    spins: dict[str, int] = {}
    for key, kind, value in entries:
        if kind in MULTIPLICITIES:
            spins[f"{key}={value}"] = _multiplicity(key, value) - 1
        elif kind in UNPAIRED:
            spins[f"{key}={value}"] = abs(_whole(key, value))
        elif kind in SPINS:
            spins[f"{key}={value}"] = _by_parity(key, value, electrons)
    total = _agreed(spins)
    if total is not None and not _possible(total, electrons):
        raise Misstated(f"{next(iter(spins))} is impossible with {electrons} electrons (charge {charge})")
    moments = atoms.arrays.get("initial_magmoms")
    if moments is None or not np.any(moments):
        return total if total is not None else _computed_spin(atoms, electrons), ()
    name = "initial magnetic moments"
    if np.ndim(moments) != 1:
        return total, (f"its {name} are vectors, which are not used",)
    try:
        part = _summed(-moments if np.sum(moments) < 0 else moments, name, total, _ROUNDED if total is None else 0.5)
        if total is None and part is not None and not _possible(part, electrons):
            raise Misstated(f"its {name} sum to {part}, which is impossible with {electrons} electrons")
    except Misstated:
        if total is None and atoms.pbc.any():  # the moment of a metal's cell need not be a whole number
            return None, (f"its {name} are not used: they sum to {np.sum(moments):.3g}",)
        raise
    return part if total is None else total, ()


def _possible(spin: int, electrons: int) -> bool:
    return (electrons - spin) % 2 == 0 and 0 <= spin <= electrons


def _computed_spin(atoms: Atoms, electrons: int) -> int | None:
    spins = (abs(_computed(atoms, name)) for name in ("magmom", "magmoms"))
    return next((spin for spin in spins if spin and _possible(spin, electrons)), None)


def _whole(key: str, value: Any) -> int:
    number = whole(value)
    if number is None:
        raise Misstated(f"its {key}, {value}, is not a whole number")
    return number


def _multiplicity(key: str, value: Any) -> int:
    if isinstance(value, str) and value.strip().lower() in _WORDS:
        return _WORDS.index(value.strip().lower()) + 1
    number = _whole(key, value)
    if number < 1:
        raise Misstated(f"its {key}, {value}, is below 1")
    return number


def _by_parity(key: str, value: Any, electrons: int) -> int:
    """Return N_up - N_down from a number that is either N_up - N_down or 2S + 1."""
    if isinstance(value, str) and value.strip().lower() in _WORDS:
        return _multiplicity(key, value) - 1
    number = abs(_whole(key, value))
    if (electrons - number) % 2 == 0:
        return number
    if number == 0:
        raise Misstated(f"its {key}, {value}, is neither N_up - N_down nor 2S + 1 of {electrons} electrons")
    return number - 1


def _agreed(statements: Mapping[str, int]) -> int | None:
    """Return the common value of all statements; None without any. Raises Misstated if they differ."""
    if len(set(statements.values())) > 1:
        raise Misstated(f"{' and '.join(statements)} contradict each other")
    return next(iter(statements.values()), None)


def _summed(array: np.ndarray, name: str, total: int | None, tolerance: float) -> int | None:
    """Return the whole number that is the sum of values per atom; None if all are zero. Raises Misstated."""
    if not np.any(array):
        return None
    value = float(np.sum(array))
    if total is not None and not abs(value - total) <= tolerance:
        raise Misstated(f"its {name} sum to {value:.3g}, but it states {total}")
    if not math.isfinite(value) or (total is None and abs(value - round(value)) > tolerance):
        raise Misstated(f"its {name} sum to {value:.3f}, not to a whole number")
    return round(value)


def _computed(atoms: Atoms, name: str) -> int:
    """Sum a computed result over the atoms. Return zero unless it is a whole number: it was not meant as input."""
    results = getattr(atoms.calc, "results", None) or {}
    if results.get(name) is None:
        return 0
    try:
        value = float(np.sum(np.asarray(results[name], dtype=float)))
    except (TypeError, ValueError):
        return 0
    return round(value) if math.isfinite(value) and abs(value - round(value)) < _ROUNDED else 0
