"""One worker on a set of structures: claims some, calculates them, records the results, until none is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.files.atomic import record
from fusion.methods import abilities
from fusion.methods.protocol import Method
from fusion.runs.results import Result
from fusion.tasks.structures.claims import Claims
from fusion.tasks.structures.records import Record, Records

CLAIMS = ".claims"
"""Name of the file of claims in the directory of a run."""

ATTEMPTS = 3
"""Workers that may end while they calculate a structure before it is given up."""

_CHUNK_S = 2.0
"""Structures are claimed together as long as they take less than this: larger parts lose more when a worker ends."""

_WAIT_S = 0.3


class Calculation(Protocol):
    """Calculation of a task for each of many structures."""

    def check(self, method: Method, systems: Sequence[System]) -> None:
        """Raise InputError for structures that cannot be calculated."""
        ...

    def calculate(self, method: Method, systems: Sequence[System]) -> list[Result]:
        """Return one result for each of the structures."""
        ...


@dataclass(frozen=True)
class Job:
    """Calculation of many structures. `systems` has None for those that cannot be calculated."""

    method: Method
    calculation: Calculation
    systems: tuple[System | None, ...]

    @property
    def order(self) -> list[int]:
        """Numbers of the structures to calculate, those with the most atoms first.

        Batches of similar structures are the fastest, and long calculations at the end would leave workers idle.
        """
        usable = [index for index, system in enumerate(self.systems) if system is not None]
        return sorted(usable, key=lambda index: -len(self._system(index).symbols))

    def calculated(self, indices: Sequence[int]) -> list[Result]:
        """Results of some structures; a failure of one does not affect the others.

        A method forgets the last structure: an SCF that starts from its density can converge to another state, which
        would depend on the order of the structures and on the number of workers.
        """
        systems = [self._system(index) for index in indices]
        if (remembering := abilities.remembering(self.method)) is not None:
            remembering.recall({})
        try:
            return [_checked(result) for result in self.calculation.calculate(self.method, systems)]
        except OSError:  # a full disk or a lost folder would fail all structures
            raise
        except Exception as error:  # programs behind a method raise exceptions of many types
            if len(indices) > 1:
                return [result for index in indices for result in self.calculated([index])]
            return [Result(systems[0], "failed", message=_reason(error))]

    def _system(self, index: int) -> System:
        system = self.systems[index]
        assert system is not None
        return system


def _checked(result: Result) -> Result:
    """Return the result; one that is not finite has failed."""
    values = {"energy": result.energy, "forces": result.properties.get("forces")}
    wrong = [name for name, value in values.items() if value is not None and not np.isfinite(value).all()]
    if result.status != "ok" or not wrong:
        return result
    return Result(result.system, "failed", message=f"its {wrong[0]} is not finite")


def _reason(error: Exception) -> str:
    """Message of an exception on one line, with its type unless it is one of fusion's own."""
    text = " ".join(str(error).split())
    if isinstance(error, CalculationError | InputError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def work(job: Job, directory: Path, show: Callable[[Records], None], stop_if_asked: Callable[[], None]) -> Records:
    """Calculate the structures that are left in `directory` beside any other workers; return all records.

    `show` is called with the records after each part. When only other workers have structures left this one waits, and
    takes those of a worker that ended.
    """
    records, order = Records(directory), job.order
    claims = Claims(record(directory / CLAIMS))
    try:
        size = 1
        while True:
            records.refresh()
            show(records)
            left = [place for place, index in enumerate(order) if index not in records.done]
            if not left:
                return records
            claimed = False
            while left:
                first, number = left[0], _run_length(left, size)
                left = left[number:]
                if not claims.take(first, number):
                    continue
                claimed = True
                try:
                    size = _calculate(job, records, order[first : first + number], size)
                finally:
                    claims.free(first, number)
                show(records)
                stop_if_asked()
                left = [place for place in left if order[place] not in records.done]
            if not claimed:
                stop_if_asked()
                time.sleep(_WAIT_S)
    finally:
        records.close()
        claims.close()


def _run_length(places: Sequence[int], most: int) -> int:
    """Number of consecutive places at the beginning, at most `most`."""
    number = 1
    while number < min(most, len(places)) and places[number] == places[0] + number:
        number += 1
    return number


def _calculate(job: Job, records: Records, indices: Sequence[int], size: int) -> int:
    """Calculate claimed structures that have no record yet; return the number to claim next."""
    records.refresh()
    todo = [index for index in indices if index not in records.done]
    fatal = [index for index in todo if records.attempts[index] >= ATTEMPTS]
    if fatal:
        reason = f"given up: {ATTEMPTS} workers ended while they calculated it"
        records.add([Record(index, "failed", message=reason, worker=records.worker) for index in fatal])
        todo = [index for index in todo if index not in fatal]
    if not todo:
        return size
    # One of those begun before may have ended its worker: it is calculated alone.
    todo = [index for index in todo if records.attempts[index]][:1] or todo
    records.begin(todo)
    began = time.monotonic()
    try:
        results = job.calculated(todo)
    except BaseException:  # a signal: this worker ends in good order
        records.begin(todo, -1)
        raise
    wall = time.monotonic() - began
    starts = [job.systems[index] for index in todo]
    records.add(
        [
            Record.of(index, start, result, wall / len(todo), records.worker)
            for index, start, result in zip(todo, starts, results, strict=True)
            if start is not None
        ]
    )
    records.refresh()
    grows = wall < _CHUNK_S and len(todo) == size and abilities.remembering(job.method) is None
    return 2 * size if grows else max(1, size // 2) if wall > 2 * _CHUNK_S else size
