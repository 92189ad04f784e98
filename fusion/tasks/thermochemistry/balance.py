"""Enthalpies and free energies of reaction, atomisation and formation from those of species, with errors. Hartree."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusion.chemistry import g2
from fusion.chemistry.reactions import Reaction, Term
from fusion.chemistry.system import System
from fusion.tasks.thermochemistry.species import Energy, Species


@dataclass(frozen=True)
class Conditions:
    """Temperature in K; `scale`: factor on zero-point energies; `spin_orbit`: add measured spin-orbit energies of
    atoms."""

    temperature_k: float
    scale: float = 1.0
    spin_orbit: bool = False


@dataclass(frozen=True)
class Change:
    """Products minus reactants at one level: energy; enthalpy at 0 K, at the temperature and at 298.15 K; Gibbs energy
    at the temperature. Errors are those of the energies alone, None where there are none."""

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
    """Reaction of a molecule to its atoms, which are named by their symbols."""
    counts = Counter(species.system.symbols)
    atoms = (Term(float(count), symbol, atom(symbol)) for symbol, count in counts.items())
    return Reaction((Term(-1.0, species.name, species.system), *atoms))


def atom(symbol: str) -> System:
    """A free atom in its ground state: from the G2 collection, or else with the multiplicity tabulated by ASE."""
    if g2.knows([symbol]):
        return g2.system(symbol)
    from ase.data import atomic_numbers, ground_state_magnetic_moments

    spin = round(ground_state_magnetic_moments[atomic_numbers[symbol]])
    return System(symbol, (symbol,), np.zeros((1, 3)), spin=spin)


def missing(reaction: Reaction, species: Mapping[str, Species], level: str) -> list[str]:
    """Names of the species without a usable energy at the level."""
    return [term.name for term in reaction.terms if energy_of(species[term.name], level) is None]


def energy_of(species: Species, level: str) -> Energy | None:
    """Energy of a species at a level; None if it is missing or not usable."""
    energy = species.energies.get(level)
    usable = species.problem is None and energy is not None and energy.value is not None
    return energy if usable else None


def change(reaction: Reaction, species: Mapping[str, Species], level: str, conditions: Conditions) -> Change | None:
    """Changes of energy, enthalpy and Gibbs energy at a level; None if a species has no usable energy."""
    if missing(reaction, species, level):
        return None
    energies = {term.name: species[term.name].energies[level] for term in reaction.terms}
    electronic = reaction.change({name: _value(energy) for name, energy in energies.items()})
    if conditions.spin_orbit:
        electronic += reaction.change({name: g2.spin_orbit(_free_atom(species[name])) for name in energies})
    zero_point = conditions.scale * reaction.change({name: species[name].zero_point for name in energies})
    enthalpy_0 = electronic + zero_point
    enthalpy = enthalpy_0 + reaction.change({name: species[name].thermal for name in energies})
    enthalpy_room = enthalpy_0 + reaction.change({name: species[name].thermal_room for name in energies})
    entropy = reaction.change({name: species[name].entropy for name in energies})
    return Change(
        electronic,
        enthalpy_0,
        enthalpy,
        enthalpy_room,
        enthalpy - conditions.temperature_k * entropy,
        reaction.error({name: energy.stderr for name, energy in energies.items()}),
        _spread(reaction, energies),
    )


def formation(species: Species, atomised: Change) -> Formation | None:
    """Heats of formation of a species; None for elements without measured heats of formation of the atoms."""
    symbols = species.system.symbols
    if not g2.knows(symbols):
        return None
    formation_0 = g2.atoms_formation_0(symbols) - atomised.enthalpy_0
    return Formation(formation_0, formation_0 + species.thermal_room - g2.elements_thermal(symbols))


def experiment(reaction: Reaction, species: Mapping[str, Species]) -> Formation | None:
    """Measured enthalpy of a reaction at 0 K and 298.15 K; None unless all species are in the G2 collection."""
    heats = {}
    for term in reaction.terms:
        name = species[term.name].experiment
        measured = None if name is None else g2.measured(name)
        if measured is None:
            return None
        heats[term.name] = measured
    return Formation(
        reaction.change({name: measured.formation_0 for name, measured in heats.items()}),
        reaction.change({name: measured.formation_298 for name, measured in heats.items()}),
    )


def statistics(errors: Sequence[tuple[str, float]]) -> dict[str, Any] | None:
    """Number, mean, mean absolute, root mean square and largest of `errors`, pairs (name, error)."""
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


def _free_atom(species: Species) -> tuple[str, ...]:
    """Symbol of a single atom, as a tuple; empty for a molecule."""
    return species.system.symbols if species.is_atom else ()


def _spread(reaction: Reaction, energies: Mapping[str, Energy]) -> float | None:
    """Standard deviation of an ensemble for the reaction. The members' own reactions give it if all their energies are
    there, because a member's errors are similar in all species; otherwise deviations add in quadrature."""
    members = [energies[term.name].members for term in reaction.terms]
    complete = [values for values in members if values is not None]
    if len(complete) == len(members) and len({len(values) for values in complete}) == 1:
        total = sum(term.coefficient * values for term, values in zip(reaction.terms, complete, strict=True))
        return float(np.std(total, ddof=1))
    return reaction.error({name: energy.std for name, energy in energies.items()})
