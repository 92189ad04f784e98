"""Binding energy of a complex of fragments as the subject of a comparison, with counterpoise correction.

Boys, Bernardi, Mol. Phys. 19, 553 (1970): every fragment is also calculated in the basis of the whole complex. The
energy it gains from its neighbour's basis functions is then not counted as binding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fusion.chemistry.formulas import lowest_spin
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.tasks.compare.subject import Quantity, Structure, Subject
from fusion.tasks.geometry.internal_coordinates import bonds
from fusion.tasks.geometry.structures import atom_indices

COUNTERPOISE = "binding, counterpoise"


def subject(fragments: Any, charges: Any, counterpoise: bool, system: System) -> Subject:
    """Binding energies: E(complex) - sum of E(fragment), with unrelaxed fragments; negative for a bound complex.

    `fragments`: lists of atoms counted from 1, or `auto` for the parts not connected by bonds; `charges` of the
    fragments, zero if None. Fragments have their lowest spin. Raises InputError.
    """
    if any(system.pbc):
        raise InputError(f"task.fragments: {system.name} is periodic; fragments are parts of molecules")
    groups = _automatic(system) if fragments == "auto" else _listed(fragments, system)
    charges = _charges(charges, groups, system)
    parts = [
        _fragment(system, atoms, charge, index)
        for index, (atoms, charge) in enumerate(zip(groups, charges, strict=True))
    ]
    _check_spins(system, parts)
    structures = [Structure("complex", system), *(Structure(part.name, part) for part in parts)]
    uncorrected = (("complex", 1.0), *((part.name, -1.0) for part in parts))
    quantities = [Quantity("binding", uncorrected)]
    if counterpoise:
        in_full_basis = [
            Structure(f"{part.name}-ghosts", part, _ghosts(system, atoms))
            for part, atoms in zip(parts, groups, strict=True)
        ]
        structures += in_full_basis
        corrected = (("complex", 1.0), *((structure.name, -1.0) for structure in in_full_basis))
        quantities.append(Quantity(COUNTERPOISE, corrected))
    title = f"binding of {' + '.join(part.formula for part in parts)}"
    return Subject("binding", title, tuple(structures), tuple(quantities))


def _automatic(system: System) -> list[tuple[int, ...]]:
    """Atoms (from 0) of the parts of the system that are not connected by bonds, judged by distances."""
    from scipy.sparse.csgraph import connected_components

    number, labels = connected_components(bonds(system), directed=False)
    if number < 2:
        raise InputError(f"task.fragments: {system.name} is one molecule; list the atoms, [[1,2,3],[4,5,6]]")
    return [tuple(index for index, label in enumerate(labels) if label == part) for part in range(number)]


def _listed(fragments: Any, system: System) -> list[tuple[int, ...]]:
    if not isinstance(fragments, Sequence) or isinstance(fragments, str) or len(fragments) < 2:
        raise InputError(
            f"task.fragments: {fragments!r} is no list of fragments; list the atoms of each, [[1,2,3],[4,5,6]], or auto"
        )
    for group in fragments:
        if not isinstance(group, Sequence) or isinstance(group, str) or not group:
            raise InputError(f"task.fragments: {group!r} is no list of atoms; write [[1,2,3],[4,5,6]]")
    groups = [atom_indices(list(group), system, "task.fragments") for group in fragments]
    listed_atoms = sorted(index for group in groups for index in group)
    if listed_atoms != list(range(len(system.symbols))):
        missing_atoms = sorted(set(range(len(system.symbols))) - set(listed_atoms))
        fault = f"atom {missing_atoms[0] + 1} is in none" if missing_atoms else "an atom is in two"
        raise InputError(f"task.fragments: every atom belongs to one fragment; {fault}")
    return groups


def _charges(stated: Any, groups: Sequence[tuple[int, ...]], system: System) -> list[int]:
    charges = [0] * len(groups) if stated is None else list(stated) if isinstance(stated, Sequence) else [stated]
    integers = all(isinstance(charge, int) and not isinstance(charge, bool) for charge in charges)
    if not integers or len(charges) != len(groups) or sum(charges) != system.charge:
        raise InputError(
            f"task.fragment_charges must be {len(groups)} whole numbers that sum to the charge of the complex, "
            f"{system.charge}, not {stated if stated is not None else charges}"
        )
    return charges


def _fragment(system: System, atoms: tuple[int, ...], charge: int, index: int) -> System:
    symbols = tuple(system.symbols[atom] for atom in atoms)
    spin = lowest_spin(symbols, charge)
    positions = system.positions[list(atoms)]
    return System(f"fragment-{index + 1}", symbols, positions, charge, spin, spin_assumed=True).with_spin_note()


def _check_spins(system: System, parts: Sequence[System]) -> None:
    """Raise InputError for a complex with more unpaired electrons than its fragments together: one of these would have
    another state than in the complex, and its excitation would count as binding."""
    most = sum(part.spin for part in parts)
    if system.spin > most:
        raise InputError(
            f"task.fragments: system.spin={system.spin}, but the fragments have their lowest spins, together {most} "
            "unpaired electrons; write complex and fragments to files with their spins, and compare task.reaction"
        )


def _ghosts(system: System, atoms: tuple[int, ...]) -> tuple[tuple[str, float, float, float], ...]:
    others = [index for index in range(len(system.symbols)) if index not in atoms]
    positions = [[float(value) for value in system.positions[index]] for index in others]
    return tuple((system.symbols[index], x, y, z) for index, (x, y, z) in zip(others, positions, strict=True))
