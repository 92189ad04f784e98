"""task=evaluate data=...: errors of a method on labelled energies, forces, stress and dipoles."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion import datasets
from fusion.datasets import Labelled
from fusion.errors import CalculationError, InputError
from fusion.evaluation import errors, tables, tensors, unit_checks
from fusion.evaluation.predictions import Predictions
from fusion.evaluation.requests import requested_properties
from fusion.methods import abilities, protocol
from fusion.parallel import processes
from fusion.runs.layout import CHECKPOINT
from fusion.runs.results import Result
from fusion.runs.state import is_own, read_state, write_state
from fusion.runs.task import Plan, Title

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.runs.run import Run

PARTS = ("all", "train", "validation", "test")
_CALL_S = 2.0
"""The number of structures per call doubles until a call takes this long: few calls, and a kill loses little."""
_SAVE_S = 1.0
_MOST = 4096


@dataclass(frozen=True)
class EvaluationPlan(Plan):
    """Evaluation on `data`, with the properties `requested` of every structure and the `problems` of those left out.

    `state` is the content of a checkpoint, None for a new run.
    """

    data: Labelled
    requested: Sequence[frozenset[str]]
    problems: Mapping[int, str]
    state: Mapping[str, Any] | None


class LabelledEvaluation:
    """Compares the labels of all structures of the data, or of a part of its split, with the method's predictions.

    Every structure that is left out is reported with the reason.
    """

    needs = frozenset({"energy"})

    def __init__(self, name: str, part: str) -> None:
        if part not in PARTS:
            raise InputError(f"task.part must be {', '.join(PARTS[:-1])} or {PARTS[-1]}, not {part!r}")
        self.name, self.part = name, part

    def check(self, method: Method, system: System, run: Run) -> EvaluationPlan:
        """Raises InputError for unreadable or contradictory data, and where the method can calculate no structure."""
        protocol.require(method, self.needs, f"task {self.name}")
        data = self._data(run)
        requested, problems = requested_properties(data, method, self.needs)
        if len(problems) == len(data):
            first = problems[min(problems)]
            raise InputError(f"{method.name} cannot calculate any structure of the data {self._named(data)}: {first}")
        state = read_state(run, self.name)
        if state is not None and not np.array_equal(state["ids"], data.ids):
            raise InputError(
                f"{run.checkpoint} has other structures than the data {self._named(data)}; remove ckpt to start anew"
            )
        return EvaluationPlan(method, system, data, requested, problems, state)

    def title(self, plan: EvaluationPlan, run: Run) -> Title:
        """Method and data for the title, and notes on the data and on a resumed run."""
        from fusion.console.format import count

        good = len(plan.data) - len(plan.problems)
        notes = list(plan.data.report.notes())
        if plan.state is not None and is_own(run):
            done = int(np.sum(plan.state["done"])) - len(plan.state["problems"])
            notes.append(f"resuming after {done} of {good} ({CHECKPOINT})")
        structures = f"{count(good, 'labelled structure')} of {self._named(plan.data)}"
        return (plan.method.label, structures, self.name), tuple(notes)

    def run(self, plan: EvaluationPlan, run: Run) -> Result:
        """The errors in the details. Raises InputError where labels have another unit or sign than the data state."""
        if processes.rank() != 0:  # only the first process calculates
            return Result(plan.system)
        predictions = Predictions(plan.data, dict(plan.problems), frozenset[str]().union(*plan.requested))
        if plan.state is not None and is_own(run):
            predictions.restore(plan.state)
        self._calculate(plan, run, predictions)
        evaluation = errors.measure(predictions, plan.method.energy_zero, abilities.spread_factor(plan.method))
        evaluation |= {"data": self._named(plan.data), "part": self.part, "noticed": plan.data.report.document()}
        tables.write(run.directory, predictions, evaluation)
        worst = errors.worst(predictions, evaluation.get("energy"))
        result = Result(plan.data.system(worst), details={"evaluation": evaluation})
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

    def _named(self, data: Labelled) -> str:
        part = "" if self.part == "all" else f" ({self.part})"
        return " + ".join(data.sources) + part

    def _data(self, run: Run) -> Labelled:
        data = datasets.load(run.config.data, run.start_dir)
        if self.part == "all":
            return data
        chosen = getattr(datasets.split(data, run.config.data, run.seed), self.part)
        if not len(chosen):
            raise InputError(f"task.part={self.part}: the split leaves no structure for it")
        return data.select(chosen)

    def _calculate(self, plan: EvaluationPlan, run: Run, predictions: Predictions) -> None:
        """Calculate every structure that is not yet done, with checkpoints."""
        from fusion.console.phases import phase
        from fusion.runs.signals import between_steps

        pending = predictions.pending()
        total, size, due = len(predictions.data), 1, time.monotonic() + _SAVE_S
        with phase("comparing", total, total - len(pending)) as bar, between_steps() as stop_if_asked:
            try:
                while pending:
                    began = time.monotonic()
                    for properties, group in _alike(pending[:size], plan.requested).items():
                        _calculate_some(plan.method, predictions, group, properties)
                    pending = pending[size:]
                    unit_checks.refuse(predictions, run.config.data, self._named(plan.data))
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


def _alike(chosen: Sequence[int], requested: Sequence[frozenset[str]]) -> dict[frozenset[str], list[int]]:
    """Group the structures `chosen` by the properties requested for them."""
    groups: dict[frozenset[str], list[int]] = {}
    for index in chosen:
        groups.setdefault(requested[index], []).append(index)
    return groups


def _calculate_some(
    method: Method, predictions: Predictions, chosen: Sequence[int], properties: frozenset[str]
) -> None:
    """Calculate the `properties` of structures in one call. If the call fails, repeat it with each half, so that one
    bad structure does not affect the others."""
    data = predictions.data
    try:
        systems = [data.system(index) for index in chosen]
        results = protocol.calculate(method, systems, properties)
    except (CalculationError, InputError) as error:
        if len(chosen) > 1:
            middle = len(chosen) // 2
            _calculate_some(method, predictions, chosen[:middle], properties)
            _calculate_some(method, predictions, chosen[middle:], properties)
        elif isinstance(error, InputError):
            predictions.leave_out(chosen[0], str(error))
        else:
            predictions.failures[chosen[0]] = str(error)
            predictions.done[chosen[0]] = True
        return
    for index, result in zip(chosen, results, strict=True):
        predictions.add(index, result)
