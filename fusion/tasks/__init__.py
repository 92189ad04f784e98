"""Tasks: calculations with a method and a system. `_target_` in conf/task names the class of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fusion.methods import Method
    from fusion.results import Result
    from fusion.runs import Run
    from fusion.system import System


class Task(Protocol):
    """A task. `needs`: properties that the method must provide or the core must derive.

    A task that reads labelled structures (data=...) sets `reads_data = True`; others refuse them. A task may also have
    `title(method, system, run)` for the first lines of its run, and static methods for the report, which use only the
    files of a run: `rows(document)` yields lines (label, text, further columns) below the energy from the content of
    result.json; `draw(directory)` draws the pictures; `files(directory)` names the files written besides pictures and
    tables; `stands(directory)` describes the progress of an unfinished run, None if it has written nothing.
    """

    name: str
    needs: frozenset[str]

    def check(self, method: Method, system: System, run: Run) -> None:
        """Raise InputError if the task cannot run. Nothing has been written yet; `run.directory` need not exist."""

    def run(self, method: Method, system: System, run: Run) -> Result:
        """Run the task. Raises CalculationError without a useful result; an unconverged result is returned."""
        ...
