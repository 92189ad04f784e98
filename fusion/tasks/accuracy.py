"""How far a method is from labels: energies and forces of many structures against those that a file states."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion import methods, processes
from fusion.errors import CalculationError, InputError
from fusion.results import Result
from fusion.runs import CHECKPOINT
from fusion.task_state import is_own, read_state, write_state
from fusion.tasks.labelled import comparison
from fusion.tasks.labelled.comparison import Predictions
from fusion.tasks.labelled.labels import Format, Labelled, read

if TYPE_CHECKING:
    from fusion.methods import Method
    from fusion.runs import Run
    from fusion.system import System

_CALL_S = 2.0
"""Structures per call double until a call takes this long: few calls, and little is lost by a kill."""
_SAVE_S = 1.0
_MOST = 4096


class Accuracy:
    """Energies and forces of all structures of `data`, compared with the file's. Nothing is left out unsaid."""

    needs = frozenset({"energy"})

    def __init__(
        self,
        name: str,
        data: str | None,
        energy_unit: str,
        forces_per: str,
        energy_key: str | None,
        forces_key: str | None,
        gradients: bool,
    ) -> None:
        self.name, self._data = name, data
        self._format = Format(energy_unit, forces_per, energy_key, forces_key, gradients)

    def check(self, method: Method, system: System, run: Run) -> None:
        """Raises InputError: no file, no labels, units that do not exist, nothing that the method can do."""
        if self._data is None:
            raise InputError(f"task={self.name} needs task.data=FILE: structures with energies, forces or both")
        methods.require(method, self.needs, f"task {self.name}")
        self.path = run.start_dir / Path(self._data).expanduser()
        found = read(self.path, self._format)
        self._properties = self.needs
        if any(one.forces is not None for one in found) and "forces" in methods.available(method):
            self._properties = frozenset({"energy", "forces"})
        self.structures = [_checked(one, method, self._properties) for one in found]
        good = [one for one in self.structures if one.problem is None]
        if not good:
            raise InputError(
                f"task.data: {method.name} can do nothing with '{self.path}': {self.structures[0].problem}"
            )
        state = read_state(run, self.name)
        if state is not None and state["names"] != [one.name for one in self.structures]:
            raise InputError(f"{run.checkpoint} is of other structures than '{self.path}'")

    def title(self, method: Any, system: System, run: Run) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Which method, and against what."""
        from fusion.report import count

        good = sum(one.problem is None for one in self.structures)
        notes = []
        state = read_state(run, self.name)
        if state is not None and is_own(run):
            notes.append(f"going on after {int(np.sum(state['done']))} of {good} ({CHECKPOINT})")
        words = f"{count(good, 'labelled structure')} of {self.path.name}"
        return (str(getattr(method, "label", method.name)), words, self.name), tuple(notes)

    def run(self, method: Method, system: System, run: Run) -> Result:
        """Raises InputError where what the file calls forces are gradients."""
        if processes.rank() != 0:  # one process does it
            return Result(system)
        predictions = Predictions(self.structures)
        state = read_state(run, self.name)
        if state is not None and is_own(run):
            predictions.restore(state)
        self._calculate(method, run, predictions)
        comparison.write_files(run.directory, predictions)
        worst = predictions.worst()
        found = comparison.measure(predictions)
        found["data"] = str(self.path)
        result = Result(worst.system or system, details={"accuracy": found})
        if "failed" in found:
            result.status = "not_converged"
            result.message = f"{found['failed']['structures']} structures failed, the first: {found['failed']['first']}"
        return result

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """Errors of energies and forces, and what was left out."""
        yield from comparison.rows(document["accuracy"]) if "accuracy" in document else ()

    @staticmethod
    def draw(directory: Path) -> None:
        """`parity.png`, once the structures are calculated."""
        from fusion.plots import parity

        parity.draw(directory)

    @staticmethod
    def files(directory: Path) -> list[str]:
        return [name for name in (comparison.TABLE, comparison.ARRAYS) if (directory / name).is_file()]

    def _calculate(self, method: Method, run: Run, predictions: Predictions) -> None:
        """All that is not yet done, the largest structures first: equal sizes make good batches."""
        from fusion.phases import phase
        from fusion.tasks.interruption.stopping import between_steps

        left = predictions.left()
        total, size, due = predictions.good, 1, time.monotonic() + _SAVE_S
        with phase("comparing", total, total - len(left)) as bar, between_steps() as stop_if_asked:
            try:
                while left:
                    began = time.monotonic()
                    self._calculate_some(method, predictions, left[:size])
                    left = left[size:]
                    self._refuse_misread(predictions)
                    bar(total - len(left), predictions.text())
                    size = min(2 * size, _MOST) if time.monotonic() - began < _CALL_S else size
                    if time.monotonic() > due:
                        due = time.monotonic() + max(_SAVE_S, 20.0 * self._save(run, predictions))
                    stop_if_asked()
            except KeyboardInterrupt:
                self._save(run, predictions)
                raise
        self._save(run, predictions)

    def _refuse_misread(self, predictions: Predictions) -> None:
        """Raise InputError where labels and predictions agree but for a unit, or but for the sign of all forces."""
        correlation = predictions.force_correlation()
        if correlation is not None and correlation < -0.5:
            raise InputError(
                f"the forces of '{self.path}' point against those of the method (correlation {correlation:.2f}): they "
                "are gradients +dE/dR, it seems; task.gradients=true turns them round"
            )
        ratio = predictions.energy_ratio()
        unit = None if ratio is None or abs(ratio - 1.0) < 0.1 else self._format.unit_for(ratio)
        if unit is not None:
            raise InputError(
                f"the energies of '{self.path}' are {ratio:.4g} times those of the method: they are in {unit}, it "
                f"seems, not in {self._format.energy_unit}; task.energy_unit={unit}"
            )

    def _save(self, run: Run, predictions: Predictions) -> float:
        """Write the checkpoint; the seconds that took."""
        began = time.monotonic()
        write_state(run, {"task": self.name, **predictions.state()})
        return time.monotonic() - began

    def _calculate_some(self, method: Method, predictions: Predictions, chosen: list[int]) -> None:
        """One call for all; where it fails as a whole, each by itself, so that one bad structure costs no other."""
        systems = [predictions.system(index) for index in chosen]
        try:
            results = methods.calculate(method, systems, self._properties)
        except (CalculationError, InputError) as error:
            if len(chosen) > 1:
                for index in chosen:
                    self._calculate_some(method, predictions, [index])
                return
            results = [Result(systems[0], "failed", message=str(error))]
        for index, result in zip(chosen, results, strict=True):
            predictions.add(index, result)


def _checked(one: Labelled, method: Method, properties: Iterable[str]) -> Labelled:
    """The structure with the method's objection, if it has one."""
    if one.problem is not None or one.system is None:
        return one
    try:
        methods.require(method, properties, "this calculation", [one.system])
    except InputError as error:
        return replace(one, problem=str(error))
    return one
