"""task=evaluate data=...: errors of a method on labelled energies, forces, stress and dipoles."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion import datasets
from fusion.chemistry import energy_zeros
from fusion.datasets import Labelled
from fusion.errors import CalculationError, InputError
from fusion.evaluation import errors, tables, tensors, unit_checks
from fusion.evaluation.predictions import Predictions
from fusion.evaluation.requests import requested_properties
from fusion.methods import protocol
from fusion.parallel import processes
from fusion.runs.layout import CHECKPOINT
from fusion.runs.results import Result
from fusion.runs.state import is_own, read_state, write_state

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.runs.run import Run

PARTS = ("all", "train", "validation", "test")
_CALL_S = 2.0
"""The number of structures per call doubles until a call takes this long: few calls, and a kill loses little."""
_SAVE_S = 1.0
_MOST = 4096


class LabelledEvaluation:
    """Compares the labels of all structures of the data, or of a part of its split, with the method's predictions.

    Every structure that is left out is reported with the reason.
    """

    needs = frozenset({"energy"})

    def __init__(self, name: str, part: str) -> None:
        if part not in PARTS:
            raise InputError(f"task.part must be {', '.join(PARTS[:-1])} or {PARTS[-1]}, not {part!r}")
        self.name, self.part = name, part

    def check(self, method: Method, system: System, run: Run) -> None:
        """Raises InputError for unreadable or contradictory data, and where the method can calculate no structure."""
        protocol.require(method, self.needs, f"task {self.name}")
        self.data = self._data(run)
        self.requested, self.problems = requested_properties(self.data, method, self.needs)
        if len(self.problems) == len(self.data):
            first = self.problems[min(self.problems)]
            raise InputError(f"{method.name} cannot calculate any structure of the data {self._title}: {first}")
        self.state = read_state(run, self.name)
        if self.state is not None and not np.array_equal(self.state["ids"], self.data.ids):
            raise InputError(
                f"{run.checkpoint} has other structures than the data {self._title}; remove ckpt to start anew"
            )

    def title(self, method: Any, system: System, run: Run) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Method and data for the title, and notes on the data and on a resumed run."""
        from fusion.console.format import count

        good = len(self.data) - len(self.problems)
        notes = list(self.data.report.notes())
        if self.state is not None and is_own(run):
            done = int(np.sum(self.state["done"])) - len(self.state["problems"])
            notes.append(f"resuming after {done} of {good} ({CHECKPOINT})")
        structures = f"{count(good, 'labelled structure')} of {self._title}"
        return (str(getattr(method, "label", method.name)), structures, self.name), tuple(notes)

    def run(self, method: Method, system: System, run: Run) -> Result:
        """The errors in the details. Raises InputError where labels have another unit or sign than the data state."""
        if processes.rank() != 0:  # only the first process calculates
            return Result(system)
        predictions = Predictions(self.data, dict(self.problems), frozenset[str]().union(*self.requested))
        if self.state is not None and is_own(run):
            predictions.restore(self.state)
        self._calculate(method, run, predictions)
        factor = getattr(getattr(method, "domain", None), "factor", None)
        evaluation = errors.measure(predictions, energy_zeros.of(method), factor)
        evaluation |= {"data": self._title, "part": self.part, "noticed": self.data.report.document()}
        tables.write(run.directory, predictions, evaluation)
        worst = errors.worst(predictions, evaluation.get("energy"))
        result = Result(self.data.system(worst), details={"evaluation": evaluation})
        if "failed" in evaluation:
            result.status = "not_converged"
            result.message = (
                f"{evaluation['failed']['structures']} structures failed, the first: {evaluation['failed']['first']}"
            )
        return result

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """Lines for the errors of all kinds of labels and the structures left out."""
        yield from errors.rows(document["evaluation"])

    @staticmethod
    def draw(directory: Path) -> None:
        """Draw `parity.png`, and `calibration.png` for a model that states its spread."""
        from fusion.evaluation import calibration_plot, parity_plot

        parity_plot.draw(directory)
        calibration_plot.draw(directory)

    @staticmethod
    def files(directory: Path) -> list[str]:
        """Names of the tables written."""
        names = (tables.STRUCTURES, tables.MOLECULES, tables.FORCES, *(kind.file for kind in tensors.KINDS))
        return [name for name in names if (directory / name).is_file()]

    @property
    def _title(self) -> str:
        part = "" if self.part == "all" else f" ({self.part})"
        return " + ".join(self.data.sources) + part

    def _data(self, run: Run) -> Labelled:
        data = datasets.load(run.config.data, run.start_dir)
        if self.part == "all":
            return data
        chosen = getattr(datasets.split(data, run.config.data, run.seed), self.part)
        if not len(chosen):
            raise InputError(f"task.part={self.part}: the split leaves no structure for it")
        return data.select(chosen)

    def _calculate(self, method: Method, run: Run, predictions: Predictions) -> None:
        """Calculate every structure that is not yet done, with checkpoints."""
        from fusion.console.phases import phase
        from fusion.runs.signals import between_steps

        pending = predictions.pending()
        total, size, due = len(predictions.data), 1, time.monotonic() + _SAVE_S
        with phase("comparing", total, total - len(pending)) as bar, between_steps() as stop_if_asked:
            try:
                while pending:
                    began = time.monotonic()
                    for group in self._alike(pending[:size]):
                        self._calculate_some(method, predictions, group)
                    pending = pending[size:]
                    unit_checks.refuse(predictions, run.config.data, self._title)
                    bar(total - len(pending), predictions.text())
                    size = min(2 * size, _MOST) if time.monotonic() - began < _CALL_S else size
                    if time.monotonic() > due:
                        due = time.monotonic() + max(_SAVE_S, 20.0 * self._save(run, predictions))
                    stop_if_asked()
            except KeyboardInterrupt:
                self._save(run, predictions)
                raise
        self._save(run, predictions)

    def _save(self, run: Run, predictions: Predictions) -> float:
        """Write the checkpoint; return the time this took, in seconds."""
        began = time.monotonic()
        write_state(run, {"task": self.name, **predictions.state()})
        return time.monotonic() - began

    def _alike(self, chosen: list[int]) -> list[list[int]]:
        """The structures `chosen` grouped by the properties requested for them."""
        groups: dict[frozenset[str], list[int]] = {}
        for index in chosen:
            groups.setdefault(self.requested[index], []).append(index)
        return list(groups.values())

    def _calculate_some(self, method: Method, predictions: Predictions, chosen: list[int]) -> None:
        """Calculate similar structures in one call. If the call fails, repeat it with each half, so that one bad
        structure does not affect the others."""
        data = predictions.data
        try:
            systems = [data.system(index) for index in chosen]
            results = protocol.calculate(method, systems, self.requested[chosen[0]])
        except (CalculationError, InputError) as error:
            if len(chosen) > 1:
                middle = len(chosen) // 2
                self._calculate_some(method, predictions, chosen[:middle])
                self._calculate_some(method, predictions, chosen[middle:])
            elif isinstance(error, InputError):
                predictions.leave_out(chosen[0], str(error))
            else:
                predictions.failures[chosen[0]] = str(error)
                predictions.done[chosen[0]] = True
            return
        for index, result in zip(chosen, results, strict=True):
            predictions.add(index, result)
