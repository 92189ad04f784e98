"""Subject of a comparison: the structures that every method calculates, and the sums of their energies to compare.

Total energies of two methods have a common zero only where both are those of all electrons and nuclei. A sum whose
elements and charges cancel (reaction, atomisation, binding and relative energies) is comparable between any two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusion.chemistry.system import System

EXCITATIONS = "excitations"
"""Kind of a subject whose quantities are the energies of excited states above the lowest one."""


@dataclass(frozen=True)
class Structure:
    """One calculation of every method; `name` is also the name of its directory.

    `ghosts` are centres (symbol, x, y, z in bohr) that carry only basis functions, for methods with a basis; `solvent`
    is a value of method.solvent.
    """

    name: str
    system: System
    ghosts: tuple[tuple[str, float, float, float], ...] = ()
    solvent: Any = None


@dataclass(frozen=True)
class Quantity:
    """A sum of energies: `terms` are names of structures with coefficients; `coordinate`: value of a scan point.

    With `state`, it is the energy of this state, counted from 0, above the lowest one of the only structure.
    """

    label: str
    terms: tuple[tuple[str, float], ...]
    coordinate: float | None = None
    state: int | None = None


@dataclass(frozen=True)
class Point:
    """A structure of a scan with the value of the scanned coordinate, or its number in the file."""

    structure: str
    value: float


@dataclass(frozen=True)
class Subject:
    """Structures and quantities to compare.

    `kind`: molecule, reaction, atomisation, scan, binding, solvation or excitations; `title` for the first line.
    The `quantities` of a scan follow from its `points` once its zero is chosen. `axis`: the scanned coordinate with its
    unit.
    """

    kind: str
    title: str
    structures: tuple[Structure, ...]
    quantities: tuple[Quantity, ...] = ()
    points: tuple[Point, ...] = ()
    axis: str = ""

    @property
    def absolute(self) -> bool:
        """True if total energies are compared, which needs a common zero."""
        return self.kind == "molecule"

    def relative_to(self, zero: str) -> tuple[Quantity, ...]:
        """Energies of a scan's points relative to the structure `zero`."""
        return tuple(
            Quantity(point.structure, ((point.structure, 1.0), (zero, -1.0)), point.value) for point in self.points
        )


def molecule(system: System) -> Subject:
    """One molecule, compared by its total energy and forces."""
    structure = Structure(system.name, system)
    return Subject("molecule", system.formula, (structure,), (Quantity(system.name, ((system.name, 1.0),)),))


def excitations(system: System, states: int) -> Subject:
    """Energies of the lowest states of a molecule above the first."""
    quantities = (Quantity(f"state {n + 1}", ((system.name, 1.0),), state=n) for n in range(1, states))
    title = f"{states} states of {system.formula}"
    return Subject(EXCITATIONS, title, (Structure(system.name, system),), tuple(quantities))


def atomisation(system: System, atoms: Mapping[str, System]) -> Subject:
    """Atomisation energy of a molecule; `atoms` by symbol, each in its ground state."""
    names = {symbol: f"atom-{symbol}" for symbol in dict.fromkeys(system.symbols)}
    structures = (Structure(system.name, system), *(Structure(names[symbol], atoms[symbol]) for symbol in names))
    terms = ((system.name, -1.0), *((names[symbol], float(system.symbols.count(symbol))) for symbol in names))
    return Subject("atomisation", f"atomisation of {system.formula}", structures, (Quantity("atomisation", terms),))


def solvation(system: System, solvent: Any) -> Subject:
    """Free energy of solvation at a fixed geometry: E(in `solvent`) - E(gas phase). Raises InputError."""
    from fusion.scf.solvent import read

    title = f"solvation of {system.formula} in {read(solvent)}"
    structures = (Structure("gas", system), Structure("solution", system, solvent=solvent))
    return Subject("solvation", title, structures, (Quantity("solvation", (("solution", 1.0), ("gas", -1.0))),))


def node(system: System) -> dict[str, Any]:
    """A `system` node of a configuration with exactly these nuclei, state and reference energy."""
    described: dict[str, Any] = {
        "name": system.name,
        "symbols": list(system.symbols),
        "positions": [[float(value) for value in place] for place in system.positions],
        "unit": "bohr",
        "charge": system.charge,
        "spin": system.spin,
        "multiplicity": None,
    }
    if system.reference is not None:
        reference = system.reference
        state = {"charge": system.charge, "spin": system.spin, "energy": reference.value, "source": reference.source}
        described["formula"], described["nuclear_repulsion"] = system.formula, system.nuclear_repulsion
        described["states"] = [state | {"uncertainty": reference.uncertainty}]
    return described


def unique(names: Sequence[str]) -> list[str]:
    """Names made valid for directories, with a number after repeated ones."""
    accepted: list[str] = []
    for name in names:
        plain = "".join(character if character.isalnum() or character in "-_.@+" else "-" for character in name)
        plain, number = plain.strip(".-") or "structure", 1
        while (candidate := plain if number == 1 else f"{plain}-{number}") in accepted:
            number += 1
        accepted.append(candidate)
    return accepted
