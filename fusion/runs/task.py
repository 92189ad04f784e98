"""Protocol of tasks, the plan that a task's `check` returns, and what a task may have beside.

Whatever `check` has read, built or chosen is in the plan; a task's object holds its settings alone, so that `title` and
`run` never depend on an earlier call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.runs.results import Result
    from fusion.runs.run import Run

Title = tuple[tuple[str, ...], tuple[str, ...]]
"""Parts of the first line of a run, and the notes below it."""


@dataclass(frozen=True)
class Plan:
    """Calculation that a task has checked: method and system. Tasks with more to hand on derive a class from it.

    `method` is None for a task that has several methods.
    """

    method: Any
    system: System


@dataclass(frozen=True)
class StartPlan(Plan):
    """Calculation from `start`: the system with what the task's settings add, such as held atoms or masses."""

    start: System


@dataclass(frozen=True)
class Trajectory:
    """Structures in an extended XYZ file, to be looked at in turn; with `mode`, they are one period of a vibration."""

    title: str
    file: Path
    mode: bool = False


def existing_trajectories(directory: Path, names: Mapping[str, str]) -> list[Trajectory]:
    """Return the trajectories of the files that exist in `directory`, given their names by title."""
    return [Trajectory(title, directory / name) for title, name in names.items() if (directory / name).is_file()]


class Task(Protocol):
    """A task. `needs`: properties that the method must provide or the core must derive."""

    name: str
    needs: frozenset[str]

    def check(self, method: Method, system: System, run: Run) -> Plan:
        """Return the plan of the run. Raise InputError if the task cannot run.

        Nothing has been written yet: `run.directory` need not exist, and may get another name before `run`.
        """
        ...

    def run(self, plan: Plan, run: Run) -> Result:
        """Run the plan. Raises CalculationError without a useful result; an unconverged result is returned."""
        ...


@runtime_checkable
class ReadingData(Protocol):
    """Task that reads labelled structures (data=...), with `reads_data = True`; other tasks refuse data."""

    reads_data: bool


@runtime_checkable
class Titled(Protocol):
    """Task with first lines of its own; those of other tasks are method, system and task."""

    def title(self, plan: Any, run: Run) -> Title:
        """Return the parts of the first line and the notes below it."""
        ...


@runtime_checkable
class Summarising(Protocol):
    """Task that prints lines of its own below the energy. The methods of a report use only the files of a run."""

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterable[list[str]]:
        """Yield lines, as label, text and further columns, from the content of result.json."""
        ...


@runtime_checkable
class Drawing(Protocol):
    """Task with pictures."""

    @staticmethod
    def draw(directory: Path) -> None:
        """Draw the pictures of the run in `directory`."""
        ...


@runtime_checkable
class Writing(Protocol):
    """Task that writes files beside pictures and tables."""

    @staticmethod
    def files(directory: Path) -> list[str]:
        """Return the names of these files as far as they exist."""
        ...


@runtime_checkable
class Recording(Protocol):
    """Task that can say how far an unfinished run has come."""

    @staticmethod
    def stands(directory: Path) -> str | None:
        """Describe the progress of the run in `directory`; None if it has written nothing."""
        ...


@runtime_checkable
class Moving(Protocol):
    """Task that writes structures to be looked at in turn: a trajectory, the points of a scan, normal modes."""

    @staticmethod
    def trajectories(directory: Path) -> list[Trajectory]:
        """Return the trajectories that exist, the most interesting one first."""
        ...
