"""A task for many structures, systems=FILE|FOLDER|PATTERN: workers share them, files hold all results."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from omegaconf import OmegaConf

from fusion.console import units
from fusion.console.format import count, duration
from fusion.console.phases import phase
from fusion.errors import CalculationError, InputError
from fusion.methods.protocol import Method
from fusion.parallel import processes
from fusion.runs.layout import CONFIG
from fusion.runs.results import STRUCTURES, Result
from fusion.runs.signals import between_steps
from fusion.runs.task import Plan, Title, Trajectory, existing_trajectories
from fusion.tasks.structures import executors, output
from fusion.tasks.structures.executors import OUTPUT, Share, Workers
from fusion.tasks.structures.worker import Calculation, Job, work

if TYPE_CHECKING:
    from fusion.chemistry.structure_sets import StructureSet
    from fusion.runs.run import Run
    from fusion.tasks.structures.records import Records

_LOOK_S = 0.5
_PREPARED_S = 30.0
_FORETOLD = 10
"""Structures after which the remaining time is foretold."""


@runtime_checkable
class TakesSets(Protocol):
    """Task that also calculates many structures."""

    def of_set(self) -> StructuresTask:
        """Return the task for many structures, with the same settings."""
        ...


@dataclass(frozen=True)
class SetPlan(Plan):
    """Calculation of `structures`; `job` has those that the method can calculate, `refused` the others' reasons.

    `system` is the first one that can be calculated.
    """

    structures: StructureSet
    job: Job
    refused: dict[int, str]


class StructuresTask:
    """Calculation of many structures with one method.

    `labels`: write those that converged as labels for training.
    """

    def __init__(self, name: str, calculation: Calculation, labels: bool = False) -> None:
        self.name, self._calculation, self._labels = name, calculation, labels

    def check(self, method: Method, structures: StructureSet, run: Run) -> SetPlan:
        """Plan the calculation of all structures that the method can calculate.

        Raises InputError if there is none, or for a method that cannot do the task.
        """
        executors.check(_executor(run))
        _share(method, run)
        systems, refused = [entry.system for entry in structures.entries], {}
        for index, entry in enumerate(structures.entries):
            if entry.system is None:
                refused[index] = entry.reason
                continue
            try:
                self._calculation.check(method, [entry.system])
            except InputError as error:
                systems[index], refused[index] = None, str(error)
        first = next((system for system in systems if system is not None), None)
        if first is None:
            index, reason = next(iter(refused.items()))
            raise InputError(
                f"{method.label} can calculate none of the {count(len(structures), 'structure')} of "
                f"'{structures.source}': {structures.entries[index].name}: {reason}"
            )
        return SetPlan(method, first, structures, Job(method, self._calculation, tuple(systems)), refused)

    def title(self, plan: SetPlan, run: Run) -> Title:
        """Method, number of structures and task; structures that are left out, and the workers."""
        notes = []
        if plan.refused:
            index, reason = next(iter(plan.refused.items()))
            name = plan.structures.entries[index].name
            notes.append(f"{count(len(plan.refused), 'structure')} left out, the first, {name}: {reason}")
        shared = _share(plan.method, run)
        if shared.workers > 1:
            notes.append(f"{count(shared.workers, 'worker')} with {count(shared.threads, 'thread')} each")
        parts = (
            plan.method.label,
            f"{count(len(plan.structures), 'structure')} of {Path(plan.structures.source).name}",
            self.name,
        )
        return parts, tuple(notes)

    def run(self, plan: SetPlan, run: Run) -> Result:
        """Calculate what no worker has calculated yet, and write the files of all results."""
        if processes.rank() != 0:  # further processes of srun or torchrun are workers too
            self._help(plan, run)
            return Result(plan.system)
        total, began = len(plan.job.order), time.monotonic()
        with phase(self.name, total) as bar, between_steps() as stop_if_asked:
            show = _shown(bar, total, began)
            if _share(plan.method, run).workers == 1 and _is_pool(run):
                records = work(plan.job, run.directory, show, stop_if_asked)
            else:
                records = _watch(plan, run, show, stop_if_asked)
        rows, failures = _collected(plan, records)
        self._write(plan, run, rows, failures)
        return _result(plan, rows, failures)

    def work(self, plan: SetPlan, run: Run) -> None:
        """Be one of the workers of a run: calculate what no other one has calculated, and write nothing else."""
        with between_steps() as stop_if_asked:
            work(plan.job, run.directory, lambda records: None, stop_if_asked)

    def _help(self, plan: SetPlan, run: Run) -> None:
        """Be a worker of the run in the same directory, as soon as the first process has prepared it."""
        deadline = time.monotonic() + _PREPARED_S
        while not (run.directory / CONFIG).is_file():
            if time.monotonic() > deadline:  # its name came from the clock, and is not the same here
                return
            time.sleep(_LOOK_S)
        self.work(plan, run)

    def _write(self, plan: SetPlan, run: Run, rows: list[Row], failures: list[tuple[str, str, str]]) -> None:
        """Write the files."""
        kept = [
            (row.name, row.result) for row in rows if row.good or (row.result.energy is not None and not self._labels)
        ]
        level: dict[str, str] = {}
        if self._labels:
            level = {"level_of_theory": plan.method.label, "energy_zero": plan.method.energy_zero}
        output.write_structures(run.directory / (output.LABELS if self._labels else output.STRUCTURES), kept, **level)
        output.write_table(run.directory / output.TABLE, [(row.name, row.result, row.wall_s) for row in rows])
        output.write_failures(run.directory / output.FAILURES, failures)


class Row(NamedTuple):
    """Result of a structure, with its name and its seconds."""

    name: str
    result: Result
    wall_s: float

    @property
    def good(self) -> bool:
        """True for a converged result."""
        return self.result.status == "ok"


def _collected(plan: SetPlan, records: Records) -> tuple[list[Row], list[tuple[str, str, str]]]:
    """Results in the order of the set; names, status and reasons of the structures without one."""
    entries = plan.structures.entries
    failures = [(entries[index].name, "refused", reason) for index, reason in plan.refused.items()]
    rows = []
    for index in sorted(records.done):
        system = plan.job.systems[index]
        if system is not None:
            result = _with_doubts(records.done[index].result(system))
            rows.append(Row(entries[index].name, result, records.done[index].wall_s))
    failures += [(row.name, row.result.status, row.result.message or "") for row in rows if not row.good]
    return rows, failures


def _with_doubts(result: Result) -> Result:
    """Add the reasons to doubt a result, such as an unstable determinant, to its message, which the files have."""
    sentences = [text for text in (result.message, *result.warnings) if text]
    return replace(result, message="; ".join(sentences) or None)


def _result(plan: SetPlan, rows: list[Row], failures: list[tuple[str, str, str]]) -> Result:
    """Result of the run, with the numbers of structures in its details."""
    statuses = Counter(row.result.status for row in rows)
    number = len(plan.structures)
    details = {
        "source": plan.structures.source,
        "number": number,
        **{status: statuses[status] for status in ("ok", "not_converged", "failed")},
        "refused": len(plan.refused),
        "remarks": sum(row.good and row.result.message is not None for row in rows),
        "calculation_s": sum(row.wall_s for row in rows),
    } | _energies([row for row in rows if row.good])
    if statuses["ok"] == number:
        details["verdict"] = f"all {number:,} structures"
        return Result(plan.system, details={STRUCTURES: details})
    name, _, reason = failures[0]
    message = f"{len(failures):,} of {number:,} structures have no result, the first, {name}: {reason}"
    status = "not_converged" if statuses["ok"] else "failed"
    return Result(plan.system, status, details={STRUCTURES: details}, message=message)


def rows(document: dict[str, Any]) -> Iterator[list[str]]:
    """Yield the numbers of structures, the range of energies and the time, from a result.json."""
    part = document["structures"]
    others = [f"{part[key]:,} {text}" for key, text in _OTHERS.items() if part[key]]
    yield ["structures", f"{part['ok']:,} of {part['number']:,}", *others]
    if part.get("remarks"):
        yield ["remarks", f"on {part['remarks']:,} of them", f"column message of {output.TABLE}"]
    if "lowest" in part:
        highest = f"highest {part['range_kcal']:.1f} kcal/mol above"
        yield ["lowest", units.energy(part["lowest_hartree"]), part["lowest"], highest]
    each = part["calculation_s"] / max(1, part["ok"] + part["not_converged"] + part["failed"])
    text = f"{each * 1e3:.3g} ms each" if each < 1 else f"{duration(each)} each"
    yield ["time", text, f"{duration(part['calculation_s'])} in all workers"]


def trajectories(directory: Path) -> list[Trajectory]:
    """Structures of the results, for a report."""
    return existing_trajectories(directory, {"structures": output.STRUCTURES, "labelled structures": output.LABELS})


def files(directory: Any) -> list[str]:
    """Names of the files written."""
    names = (output.STRUCTURES, output.LABELS, output.TABLE, output.FAILURES, OUTPUT)
    return [name for name in names if (directory / name).is_file()]


_OTHERS = {"not_converged": "not converged", "failed": "failed", "refused": "left out"}


def _energies(rows: list[Row]) -> dict[str, Any]:
    """Lowest energy, its structure and the range, for structures of one formula and charge."""
    from fusion.chemistry.units import KCAL_MOL_PER_HARTREE

    energies = {row.name: row.result.energy for row in rows if row.result.energy is not None}
    if len(energies) < 2 or len({(row.result.system.formula, row.result.system.charge) for row in rows}) > 1:
        return {}
    lowest = min(energies, key=energies.__getitem__)
    span = max(energies.values()) - energies[lowest]
    return {"lowest": lowest, "lowest_hartree": energies[lowest], "range_kcal": span * KCAL_MOL_PER_HARTREE}


def _share(method: Method, run: Run) -> Share:
    return executors.share(_executor(run).get("workers"), batched=method.kind == "potential")


def _is_pool(run: Run) -> bool:
    return str(_executor(run)["_target_"]) == executors.POOL  # one worker alone is this process


def _executor(run: Run) -> dict[str, Any]:
    """Settings of the executor: processes of this machine if there are none (~executor)."""
    given = run.config.get("executor")
    settings: Any = {} if given is None else OmegaConf.to_container(given, resolve=True)
    return {"_target_": executors.POOL} | settings


def _watch(plan: SetPlan, run: Run, show: Callable[[Records], None], stop_if_asked: Callable[[], None]) -> Records:
    """Start workers and wait for them. Raises CalculationError if they end with structures left."""
    from fusion.tasks.structures.records import Records

    records, order = Records(run.directory), plan.job.order
    workers = Workers(_executor(run), run.directory, _share(plan.method, run))
    try:
        while True:
            over = workers.over
            records.refresh()
            show(records)
            if all(index in records.done for index in order):
                return records
            if over:
                left = sum(index not in records.done for index in order)
                reason = workers.failure() or "no reason is known"
                raise CalculationError(f"the workers ended with {count(left, 'structure')} left: {reason} ({OUTPUT})")
            stop_if_asked()
            time.sleep(_LOOK_S)
    finally:
        workers.stop()


def _shown(bar: Callable[[int, str], None], total: int, began: float) -> Callable[[Records], None]:
    """Return a function that shows how many structures are done, their rate, and the time and cost foretold."""
    first: int | None = None

    def show(records: Records) -> None:
        nonlocal first
        done = len(records.done)
        first = done if first is None else first
        failed = sum(record.status != "ok" for record in records.done.values())
        parts = [f"{failed:,} without a result"] if failed else []
        elapsed = time.monotonic() - began
        if done - first >= _FORETOLD and elapsed > 0:
            rate = (done - first) / elapsed
            parts.append(f"{rate:.3g} a second" if rate > 1 else f"{duration(1 / rate)} each")
            cost = sum(record.wall_s for record in records.done.values()) / done * total
            left = f"at most about {duration((total - done) / rate)} left, " if done < total else ""
            parts.append(f"{left}{duration(cost)} of all workers")
        bar(done, ", ".join(parts))

    return show
