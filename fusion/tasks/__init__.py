"""Tasks: calculations with a method and a system. `_target_` in conf/task names the class of each."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.runs.results import Result
    from fusion.runs.run import Run


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


def lazily(name: str, package: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of a task's package, which loads the task's class `name` at its first use."""

    def attribute(requested: str) -> Any:
        if requested != name:
            raise AttributeError(f"module {package!r} has no attribute {requested!r}")
        return getattr(import_module(f"{package}.task"), name)

    return attribute
