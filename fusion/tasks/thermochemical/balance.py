"""From energies of species to what reactions, atomisation and formation cost, with their errors. Hartree."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusion import g2
from fusion.reaction import Reaction, Term
from fusion.system import System
from fusion.tasks.thermochemical.species import Energy, Species


@dataclass(frozen=True)
class Conditions:
    """Kelvin; `scale` of zero-point energies; whether atoms get their spin-orbit energies from experiment."""

    temperature_k: float
    scale: float = 1.0
    spin_orbit: bool = False


@dataclass(frozen=True)
class Change:
    """Products minus reactants at one level: of the energy, of the enthalpy at 0 K and at the temperature, of the Gibbs
    energy there. Errors are those of the energies alone, None where they have none."""

    electronic: float
    enthalpy_0: float
    enthalpy: float
    enthalpy_room: float
    gibbs: float
    stderr: float | None
    std: float | None


@dataclass(frozen=True)
class Formation:
    """Heats of formation at 0 K and 298.15 K from an atomisation and measured heats of formation of the atoms."""

    at_0: float
    at_298: float


def atomisation(species: Species) -> Reaction:
    """The reaction of a molecule to its atoms, named by their symbols."""
    counts = Counter(species.system.symbols)
    atoms = (Term(float(count), symbol, atom(symbol)) for symbol, count in counts.items())
    return Reaction((Term(-1.0, species.name, species.system), *atoms))


def atom(symbol: str) -> System:
    """A free atom in its ground state: as the G2 collection has it, else of the multiplicity that ASE tabulates."""
    if g2.knows([symbol]):
        return g2.system(symbol)
    from ase.data import atomic_numbers, ground_state_magnetic_moments

    spin = round(ground_state_magnetic_moments[atomic_numbers[symbol]])
    return System(symbol, (symbol,), np.zeros((1, 3)), spin=spin)


def missing(reaction: Reaction, known: Mapping[str, Species], level: str) -> list[str]:
    """Names of the species that have no energy at the level, or of which nothing may be made."""
    return [term.name for term in reaction.terms if energy_of(known[term.name], level) is None]


def energy_of(species: Species, level: str) -> Energy | None:
    """The energy of a species at a level if it is to be used."""
    energy = species.energies.get(level)
    usable = species.problem is None and energy is not None and energy.value is not None
    return energy if usable else None


def change(reaction: Reaction, known: Mapping[str, Species], level: str, conditions: Conditions) -> Change | None:
    """What the reaction costs at a level; None where a species is missing."""
    if missing(reaction, known, level):
        return None
    energies = {term.name: known[term.name].energies[level] for term in reaction.terms}
    electronic = reaction.change({name: _value(energy) for name, energy in energies.items()})
    if conditions.spin_orbit:
        electronic += reaction.change({name: g2.spin_orbit(_lone(known[name])) for name in energies})
    zero_point = conditions.scale * reaction.change({name: known[name].zero_point for name in energies})
    cold = electronic + zero_point
    warm = cold + reaction.change({name: known[name].thermal for name in energies})
    room = cold + reaction.change({name: known[name].thermal_room for name in energies})
    entropy = reaction.change({name: known[name].entropy for name in energies})
    return Change(
        electronic,
        cold,
        warm,
        room,
        warm - conditions.temperature_k * entropy,
        reaction.error({name: energy.stderr for name, energy in energies.items()}),
        _spread(reaction, energies),
    )


def formation(species: Species, atomised: Change) -> Formation | None:
    """Heats of formation; None for elements without measured ones of their atoms."""
    symbols = species.system.symbols
    if not g2.knows(symbols):
        return None
    cold = g2.atoms_formation_0(symbols) - atomised.enthalpy_0
    return Formation(cold, cold + species.thermal_room - g2.elements_thermal(symbols))


def experiment(reaction: Reaction, known: Mapping[str, Species]) -> Formation | None:
    """The measured enthalpy of a reaction at 0 K and 298.15 K; None where not all species are in the collection."""
    found = {}
    for term in reaction.terms:
        name = known[term.name].experiment
        measured = None if name is None else g2.measured(name)
        if measured is None:
            return None
        found[term.name] = measured
    return Formation(
        reaction.change({name: measured.formation_0 for name, measured in found.items()}),
        reaction.change({name: measured.formation_298 for name, measured in found.items()}),
    )


def statistics(errors: Sequence[tuple[str, float]]) -> dict[str, Any] | None:
    """Number, mean, mean absolute, root mean square and largest of errors given with their names."""
    if not errors:
        return None
    values = np.array([error for _, error in errors])
    worst = int(np.abs(values).argmax())
    return {
        "number": len(values),
        "mean": float(values.mean()),
        "mean_absolute": float(np.abs(values).mean()),
        "root_mean_square": math.sqrt(float((values**2).mean())),
        "largest": float(values[worst]),
        "largest_of": errors[worst][0],
    }


def _value(energy: Energy) -> float:
    assert energy.value is not None
    return energy.value


def _lone(species: Species) -> tuple[str, ...]:
    return species.system.symbols if species.is_atom else ()


def _spread(reaction: Reaction, energies: Mapping[str, Energy]) -> float | None:
    """The ensemble's standard deviation: of the members' own reactions where all are known, as their errors are alike
    in all species; else in quadrature."""
    members = [energies[term.name].members for term in reaction.terms]
    known = [one for one in members if one is not None]
    if len(known) == len(members) and len({len(one) for one in known}) == 1:
        total = sum(term.coefficient * one for term, one in zip(reaction.terms, known, strict=True))
        return float(np.std(total, ddof=1))
    return reaction.error({name: energy.std for name, energy in energies.items()})
