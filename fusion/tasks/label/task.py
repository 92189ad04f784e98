"""task=label: labels of many structures by any method, for training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.errors import InputError
from fusion.methods import protocol
from fusion.tasks.energy.task import Energies
from fusion.tasks.structures import task as structures_task
from fusion.tasks.structures.task import StructuresTask

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.runs.run import Run
    from fusion.runs.task import Plan, Trajectory

_LABELS = ("energy", "forces", "dipole", "stress")


class Label:
    """Labels many structures: `properties`, by default the energy, and forces and dipole where they cost little.

    What has not converged is no label.
    """

    needs = frozenset({"energy"})

    def __init__(self, name: str = "label", properties: Sequence[str] | None = None) -> None:
        self.name, self._properties = name, properties

    def of_set(self) -> StructuresTask:
        """Return the task for the structures. Raises InputError for properties that are no labels."""
        if isinstance(self._properties, str):
            raise InputError(f"task.properties must be a list: task.properties=[{self._properties}]")
        wrong = [name for name in self._properties or () if name not in _LABELS]
        if wrong:
            raise InputError(f"task.properties={wrong[0]} is no label; labels are {', '.join(_LABELS)}")
        wanted = None if self._properties is None else frozenset(self._properties)
        return StructuresTask(self.name, Energies(f"task {self.name}", wanted), labels=True)

    def check(self, method: Method, system: System, run: Run) -> Plan:
        """Refuse one structure."""
        protocol.require(method, self.needs, f"task {self.name}")
        raise InputError(f"task={self.name} labels many structures: systems=FILE, a folder, or a pattern in quotes")

    def run(self, plan: Plan, run: Run) -> Any:
        """Is not reached: `of_set` gives the task that runs."""
        raise AssertionError

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """Yield the numbers of labels, the range of energies and the time."""
        if "structures" in document:
            yield from structures_task.rows(document)

    @staticmethod
    def trajectories(directory: Path) -> list[Trajectory]:
        """Structures to be looked at in turn."""
        return structures_task.trajectories(directory)

    @staticmethod
    def files(directory: Path) -> list[str]:
        """Names of the files written."""
        return structures_task.files(directory)
