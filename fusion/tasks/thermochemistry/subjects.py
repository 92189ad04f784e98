"""Subjects of thermochemistry from its settings: levels of theory, molecules, reactions, and the species they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusion.chemistry import energy_zeros, reactions
from fusion.chemistry.reactions import Reaction
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.methods.protocol import Method
from fusion.tasks.thermochemistry import balance
from fusion.tasks.thermochemistry.species import Level, further


def read_levels(method: Method, entries: Any) -> list[Level]:
    """Return the level of the run's method, then those of `task.energies`. Raises InputError."""
    levels = [Level(method.label, method), *further(entries)]
    labels = [level.label for level in levels]
    repeated = next((label for label in labels if labels.count(label) > 1), None)
    if repeated is not None:
        raise InputError(f"task.energies: {repeated} is listed twice; the run's own method is always included")
    return levels


def read_reactions(texts: Sequence[str], start_dir: Path) -> list[Reaction]:
    """Return the reactions of `task.reaction`. Raises InputError."""
    try:
        return reactions.parse_all(texts, start_dir)
    except InputError as error:
        raise InputError(f"task.reaction: {error}") from error


def read_molecules(names: Sequence[str], start_dir: Path) -> dict[str, System]:
    """Return the molecules of `task.molecules` by name. Raises InputError."""
    try:
        return {name: reactions.species(name, start_dir) for name in names}
    except InputError as error:
        raise InputError(f"task.molecules: {error}") from error


def refuse_atoms(levels: Sequence[Level], molecules: Mapping[str, System], read: Sequence[Reaction]) -> None:
    """Raise InputError for an atom among the molecules, and if atoms are needed, for molecules or in a reaction, but no
    level has atomic energies."""
    alone = [name for name, molecule in molecules.items() if len(molecule.symbols) == 1]
    if alone:
        raise InputError(
            f"task.molecules: {alone[0]} is an atom; name molecules, task.molecules=[H2O,CH4], or a reaction, "
            "task.reaction='2 H2O -> 2 H2 + O2'"
        )
    if any(has_atoms(level) for level in levels):
        return
    atoms = [term for reaction in read for term in reaction.terms if len(term.system.symbols) == 1]
    no_atoms = f"{levels[0].label} has no meaningful energies of single atoms"
    advice = (
        "reactions of molecules instead, task.reaction='2 H2O -> 2 H2 + O2', or energies of another method at its "
        "geometries, task.energies={method: dft}"
    )
    if molecules:
        raise InputError(f"{no_atoms}, so no atomisation energies or heats of formation: give {advice}")
    if atoms:
        raise InputError(f"task.reaction: {atoms[0].name} is an atom, and {no_atoms}: give {advice}")


def species_of(molecules: Mapping[str, System], read: Sequence[Reaction]) -> dict[str, System]:
    """Return all molecules and atoms, each once; atoms of the molecules are named by their symbols."""
    systems = dict(molecules)
    for reaction in read:
        systems |= {term.name: term.system for term in reaction.terms}
    symbols = dict.fromkeys(symbol for system in molecules.values() for symbol in system.symbols)
    return systems | {symbol: balance.atom(symbol) for symbol in symbols}


def has_atoms(level: Level) -> bool:
    """True if the level has energies of single atoms, calculated or zero by definition."""
    return level.method.energy_zero in (energy_zeros.TOTAL, energy_zeros.ATOMISATION)


def calculates_atoms(level: Level) -> bool:
    """True if the energies of single atoms are calculated."""
    return bool(level.method.energy_zero == energy_zeros.TOTAL)
