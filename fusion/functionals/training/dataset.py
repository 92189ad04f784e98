"""Training systems of a functional, and the energy differences to reproduce, from a TOML file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from fusion.chemistry import system_input
from fusion.chemistry.system import System
from fusion.config.checks import check_switch
from fusion.errors import InputError
from fusion.files import bounds
from fusion.scf import occupations as numbers

BUNDLED: Final = Path(__file__).with_name("systems.toml")
KINDS: Final = ("atomisation", "ionisation", "fractional")
_KEYS: Final = frozenset({"atoms", "molecule", "charge", "spin", "against", "occupations", "line", "held_out"})
_EQUAL: Final = 1e-6
"""Largest difference of numbers of nuclei or electrons that count as equal."""


@dataclass(frozen=True)
class Entry:
    """One system of the set, as checked by `read`."""

    name: str
    system: System
    occupations: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    line: Mapping[str, float] = field(default_factory=dict)
    """Other entries with the weights of their reference energies in that of this entry."""
    against: Mapping[str, float] = field(default_factory=dict)
    """Other entries with the weights of their energies that the energy difference subtracts."""
    held_out: bool = False


@dataclass(frozen=True)
class Difference:
    """Energy difference: the sum of `coefficients` times the energies of entries."""

    name: str
    kind: str
    coefficients: Mapping[str, float]
    held_out: bool
    """True if one of the entries is held out."""


@dataclass(frozen=True)
class Set:
    """All entries by name, and the differences between them."""

    entries: Mapping[str, Entry]
    differences: tuple[Difference, ...]


def read(path: Path | None = None) -> Set:
    """Read the set from a TOML file, or the bundled set. Raises InputError, in one line, for an invalid file."""
    path = BUNDLED if path is None else path
    try:
        content = bounds.parsed_toml(bounds.text(path))
    except OSError as error:
        raise InputError(f"method.training.data: {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"method.training.data: {path} is no TOML: {bounds.reason(error)}") from error
    entries = {name: _entry(path, name, table) for name, table in content.items()}
    if not entries:
        raise InputError(f"method.training.data: {path} has no systems")
    for entry in entries.values():
        for other in (*entry.line, *entry.against):
            if other not in entries or entries[other].line:
                raise InputError(
                    f"{path}: {entry.name} refers to {other!r}, which is not a system with integer occupations there"
                )
        _check_sum(path, entry, entries)
    atoms: dict[str, list[str]] = {}
    for entry in filter(_is_atom, entries.values()):
        atoms.setdefault(entry.system.symbols[0], []).append(entry.name)
    candidates = (_difference(path, entry, atoms, entries) for entry in entries.values())
    differences = tuple(difference for difference in candidates if difference is not None)
    if not any(not difference.held_out for difference in differences):
        raise InputError(f"{path}: there is no energy difference to train on: every system is held out or has none")
    return Set(entries, differences)


def _entry(path: Path, name: str, table: Any) -> Entry:
    if not isinstance(table, dict) or ("atoms" in table) == ("molecule" in table):
        raise InputError(f"{path}: {name} needs either atoms or molecule")
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise InputError(f"{path}: {name} has the unknown key {unknown[0]!r}; the keys are {', '.join(sorted(_KEYS))}")
    try:
        occupations = table.get("occupations")
        if occupations is not None:
            up, down = numbers.checked(occupations, 1000)
            occupations = tuple(up.tolist()), tuple(down.tolist())
        system = system_input.read({"name": name, **_nuclei(table)}, path.parent)
        check_switch("held_out", table.get("held_out", False))
        if (occupations is None) != ("line" not in table):
            raise InputError("occupations and line belong together")
        line, against = (
            {str(key): float(value) for key, value in table.get(part, {}).items()} for part in ("line", "against")
        )
    except (InputError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: {name}: {error}") from error
    return Entry(name, system, occupations, line, against or line, table.get("held_out", False))


def _check_sum(path: Path, entry: Entry, entries: Mapping[str, Entry]) -> None:
    """Raise InputError unless the energies that the entry is compared with belong to the same nuclei.

    Bare protons may be missing, as in H2+ against H: they have no energy. The energies of a `line` must have as many
    electrons as the entry together.
    """
    if not entry.against:
        return
    name = "line" if entry.line else "against"
    wrong = [other for other, weight in entry.against.items() if not np.isfinite(weight) or weight == 0.0]
    if wrong or entry.name in entry.against:
        raise InputError(f"{path}: {entry.name}: {name} needs numbers other than 0, of other systems")
    left = Counter({symbol: float(number) for symbol, number in Counter(entry.system.symbols).items()})
    electrons = sum(map(sum, entry.occupations)) if entry.occupations else float(entry.system.n_electrons)
    for other, weight in entry.against.items():
        system = entries[other].system
        electrons -= weight * system.n_electrons
        left.subtract({symbol: weight * number for symbol, number in Counter(system.symbols).items()})
    unequal = [symbol for symbol, number in left.items() if abs(number) > _EQUAL and (symbol != "H" or number < 0)]
    if unequal:
        raise InputError(
            f"{path}: {entry.name}: the energies of {name} have {-left[unequal[0]]:+g} {unequal[0]} more than it; "
            "they must belong to the same nuclei"
        )
    if entry.line and abs(electrons) > _EQUAL:
        raise InputError(
            f"{path}: {entry.name}: the energies of line have {-electrons:+g} electrons more than its occupations"
        )


def _nuclei(table: Mapping[str, Any]) -> dict[str, Any]:
    state = {"charge": table.get("charge", 0), "spin": table.get("spin")}
    if "atoms" in table:
        return {"atoms": table["atoms"], "unit": "angstrom", **state}
    from ase.build import molecule

    try:
        atoms = molecule(table["molecule"])
    except KeyError:
        raise InputError(f"ASE's G2 set has no molecule {table['molecule']!r}") from None
    if state["spin"] is None:
        state["spin"] = round(float(np.sum(atoms.get_initial_magnetic_moments())))
    nuclei = {"symbols": atoms.get_chemical_symbols(), "positions": atoms.get_positions().tolist(), "unit": "angstrom"}
    return {**nuclei, **state}


def _is_atom(entry: Entry) -> bool:
    return len(entry.system.symbols) == 1 and entry.system.charge == 0 and entry.occupations is None


def _difference(
    path: Path, entry: Entry, atoms: Mapping[str, Sequence[str]], entries: Mapping[str, Entry]
) -> Difference | None:
    others: Mapping[str, float] = entry.against
    if not others:
        if _is_atom(entry):
            return None
        missing = [symbol for symbol in dict.fromkeys(entry.system.symbols) if symbol not in atoms]
        if missing or entry.system.charge:
            reason = "it is charged" if entry.system.charge else f"the set has no atom {missing[0]}"
            raise InputError(f"{path}: {entry.name} needs against = {{...}}, energies to compare with: {reason}")
        states = next((atoms[symbol] for symbol in entry.system.symbols if len(atoms[symbol]) > 1), None)
        if states is not None:
            raise InputError(
                f"{path}: {entry.name} needs against = {{...}}: the set has several states of one of its atoms, "
                f"{', '.join(states)}"
            )
        others = {atoms[symbol][0]: count for symbol, count in Counter(entry.system.symbols).items()}
    kind = "fractional" if entry.line else "ionisation" if len(entry.system.symbols) == 1 else "atomisation"
    sign = -1.0 if kind == "atomisation" else 1.0
    coefficients = {entry.name: sign, **{name: -sign * number for name, number in others.items()}}
    return Difference(entry.name, kind, coefficients, any(entries[name].held_out for name in coefficients))
