"""Energy of one system, with forces and dipole if the method provides them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.chemistry import units
from fusion.console import phases
from fusion.console.format import console, count
from fusion.methods import abilities, protocol
from fusion.methods.sums import report as sum_report
from fusion.runs.signals import between_steps
from fusion.runs.task import Plan, Trajectory
from fusion.tasks.energy import report
from fusion.tasks.structures import task as structures_task
from fusion.tasks.structures.task import StructuresTask

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.runs.results import Result
    from fusion.runs.run import Run


class Energy:
    """One call of `method.calculate` for the energy, and forces, their spread and dipole if the method provides them.

    The cycles of a method that reports them are shown; files of its result go to the run's directory.
    """

    needs = frozenset({"energy"})

    def __init__(self, name: str = "energy") -> None:
        self.name = name

    def check(self, method: Method, system: System, run: Run) -> Plan:
        """Raise InputError for a system or properties that the method cannot calculate."""
        protocol.require(method, self.needs, f"task {self.name}")
        self._properties(method, system)
        return Plan(method, system)

    def of_set(self) -> StructuresTask:
        """Return the task for many structures."""
        return StructuresTask(self.name, Energies(f"task {self.name}"))

    def run(self, plan: Plan, run: Run) -> Result:
        """Run what the check has planned."""
        method, system = plan.method, plan.system
        reporting = abilities.reporting(method)
        if reporting is None:
            return protocol.calculate(method, [system], self._properties(method, system))[0]
        # An SCF has no checkpoint to complete, so that a signal stops it at once.
        with phases.phase("SCF") as update, reporting.watched(update), between_steps(patience=0.0):
            result = protocol.calculate(method, [system], self._properties(method, system))[0]
        console().print()
        if result.files:
            result.message = f"{result.message}; the last density is in {', '.join(result.files)}"
        return result

    @staticmethod
    def rows(result: dict[str, Any]) -> Iterator[list[str]]:
        """Yield the terms of a sum, the dipole, and the details of an SCF, from a `result.json`."""
        if "structures" in result:
            yield from structures_task.rows(result)
            return
        yield from sum_report.rows(result)
        dipole = result.get("dipole_e_bohr")
        if dipole and None not in dipole and not result["system"]["charge"]:  # an ion's dipole depends on the origin
            debye = [component * units.DEBYE_PER_ATOMIC_DIPOLE for component in dipole]
            components = ", ".join(f"{component:.3f}" for component in debye)
            yield ["dipole", f"{math.hypot(*debye):.4f} D", f"({components})"]
        yield from report.population_rows(result)
        yield from report.rows(result)
        scf = result.get("kohn_sham")
        if not scf:
            return
        names = [attempt["name"] for attempt in scf["attempts"]]
        settings = f"{scf['reference']}, {scf['basis']}, grid level {scf['grid_level']} ({scf['grid_points']:,} points)"
        yield ["SCF", count(scf["cycles"], "cycle"), ", then ".join(names), settings]
        yield from report.fitting_rows(scf)
        if scf.get("occupations"):
            up, down = (", ".join(f"{number:g}" for number in numbers) or "none" for numbers in scf["occupations"])
            yield ["occupations", f"{up} up", f"{down} down"]
        if scf.get("spin_squared") is not None:
            yield ["⟨S²⟩", f"{scf['spin_squared']:.4f}", f"{scf['spin_squared_of_pure_state']:.4f} in a pure state"]

    @staticmethod
    def trajectories(directory: Path) -> list[Trajectory]:
        """Structures to be looked at in turn."""
        return structures_task.trajectories(directory)

    @staticmethod
    def files(directory: Path) -> list[str]:
        """Names of the files written for many structures."""
        return structures_task.files(directory)

    def _properties(self, method: Method, system: System) -> frozenset[str]:
        """Properties of one structure; a comparison asks for others."""
        return _properties(method, [system])


class Energies:
    """`Calculation` of energies of many structures, with `properties`, or with those that the method gives at low cost.

    `purpose` names the task in messages.
    """

    def __init__(self, purpose: str, properties: frozenset[str] | None = None) -> None:
        self._purpose, self._wanted = purpose, properties

    def check(self, method: Method, systems: Sequence[System]) -> None:
        """Raise InputError for structures or properties that the method cannot calculate."""
        protocol.require(method, {"energy"} | (self._wanted or set()), self._purpose, systems)

    def calculate(self, method: Method, systems: Sequence[System]) -> list[Result]:
        """Return the results, whose properties are those that all of these structures can have."""
        if self._wanted is not None:
            return protocol.calculate(method, systems, self._wanted | {"energy"})
        # The spread of the forces takes as long as the forces of every member of an ensemble.
        wanted = _properties(method, systems) - {"forces_std"}
        return protocol.calculate(method, systems, wanted)


def _properties(method: Method, systems: Sequence[System]) -> frozenset[str]:
    """The energy, and what the method gives beside it at low cost."""
    left_out = abilities.costly(method)
    if any(any(system.pbc) for system in systems):
        left_out |= {"dipole"}  # a crystal has none
    optional = frozenset({"forces", "forces_stderr", "forces_std", "dipole", "charges", "spin_populations"})
    return frozenset({"energy"}) | protocol.offered(method, optional - left_out, systems)
