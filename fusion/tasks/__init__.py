"""What can be done with a method and a system: one file per task, named by `_target_` in conf/task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fusion.methods import Method
    from fusion.results import Result
    from fusion.runs import Run
    from fusion.system import System


class Task(Protocol):
    """One thing to do. `needs` are the properties a method has to provide, or the core to derive.

    A task that reads labelled structures (data=...) says so by `reads_data = True`; others refuse them.
    A task may also have `title(method, system, run)`, the first lines of its run, and static methods for the report,
    which work from a run's files alone: `rows(document)`, lines (label, text, further columns) below the energy made
    from the content of result.json; `draw(directory)`, its pictures; `files(directory)`, names of what it left besides
    pictures and tables; `stands(directory)`, where an unfinished run stands, None for a run that left nothing yet.
    """

    name: str
    needs: frozenset[str]

    def check(self, method: Method, system: System, run: Run) -> None:
        """Raise InputError for what cannot be done. Nothing has been written yet; `run.directory` need not exist."""

    def run(self, method: Method, system: System, run: Run) -> Result:
        """Do it. Raises CalculationError when nothing useful came out; a result that did not converge is returned."""
        ...
