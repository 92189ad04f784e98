"""What a task has calculated so far, so that a run which was killed does none of it twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from fusion import methods, processes
from fusion.errors import InputError
from fusion.methods import Method
from fusion.results import Result
from fusion.runs import CHECKPOINT, Run
from fusion.system import System
from fusion.task_state import read_state, write_state
from fusion.tasks.interruption.stopping import between_steps
from fusion.warning_summary import counted

SAVE_SHARE = 0.05
"""Of the time, spent on saving at most: a kill loses the work of as long as twenty times a saving."""

SAME_BOHR = 1e-8
"""Nuclei nearer than this are where they were: starting again reproduces positions up to rounding."""

_CHUNK_S = 2.0


class Journal:
    """A `Method` that records every answer of another in the run's checkpoint, and gives recorded answers again.

    An algorithm that depends on nothing but the answers it gets (an optimiser, a band of images, finite differences)
    goes on after a kill by starting again: it gets the recorded answers at once and to the last bit, so that it ends
    where it would have ended, with files written along the way as they would have been. Answers are given again in the
    order of the questions; at the first question that differs the rest is forgotten. The memory of a method that has
    one is in the checkpoint as well.

    Derived forces are recorded as forces; a list of systems is calculated in parts, each saved when it is done. Use it
    as a context manager: whatever ends the block, what was calculated is saved, and Ctrl-C or SIGTERM give the
    calculation in progress some seconds to end. Raises InputError for a checkpoint of another task, system or method.
    """

    def __init__(self, method: Method, system: System, run: Run, task: str) -> None:
        self.method, self.name, self.kind = method, method.name, method.kind
        self.watch: Callable[[int], None] | None = None
        """Called with the number of systems done after each part of a list."""
        self._run, self._identity = run, {"task": task, **_identity(system, run)}
        self._results: list[Result] = []
        self._memory: dict[str, Any] | None = {}
        """The method's memory after the last recorded result; None once the method has its own."""
        state = read_state(run, task)
        if state is not None:
            self._memory = state.get("memory", {})
            _check_same(state["identity"], self._identity, run)
            self._results = _unpacked(state["calls"], system)
        self.recorded = len(self._results)
        self._asked, self._size = 0, 1
        self._stack, self._stop = ExitStack(), _go_on
        self._saved, self._saved_at, self._cost = self.recorded, time.monotonic(), 0.0

    @property
    def provides(self) -> frozenset[str]:
        """What the method provides, and forces where the core derives them."""
        return self.method.provides | (methods.available(self.method) & {"forces"})

    def check(self, systems: Sequence[System], properties: Iterable[str] = ()) -> None:
        """What the method itself says it cannot do."""
        check = getattr(self.method, "check", None)
        if check is not None:
            check(systems, frozenset(properties) & self.method.provides)

    @counted
    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        """`methods.calculate` of the method, or what it said before."""
        wanted = frozenset(properties)
        results: list[Result] = []
        while len(results) < len(systems):
            known = self._next(systems[len(results)], wanted)
            if known is None:
                break
            results.append(_copied(known))
        if len(results) < len(systems):
            self._restore_memory()
        while len(results) < len(systems):
            began = time.monotonic()
            new = methods.calculate(self.method, systems[len(results) : len(results) + self._size], wanted)
            self._results += map(_copied, new)
            self._asked += len(new)
            results += new
            self._save_if_due()
            self._stop()
            if self.watch is not None:
                self.watch(len(results))
            # The larger a part, the cheaper it is, and the more is lost by a kill.
            short = time.monotonic() - began < _CHUNK_S
            if len(new) == self._size and short and methods.remembering(self.method) is None:
                self._size *= 2
        return results

    def at(self, system: System, properties: Iterable[str]) -> Result:
        """The result at a geometry that may have been calculated at any time; it is calculated if it was not."""
        wanted = frozenset(properties)
        for result in reversed(self._results[: self._asked]):
            if _same(result.system, system) and _has(result, wanted):
                return _copied(result)
        return methods.calculate(self, [system], wanted)[0]

    def save(self) -> None:
        """Write what is not yet in the checkpoint."""
        if len(self._results) == self._saved or processes.rank() != 0:
            return
        began = time.monotonic()
        write_state(
            self._run,
            {
                "task": self._identity["task"],
                "identity": self._identity,
                "calls": _packed(self._results),
                "memory": self._remembered(),
            },
        )
        self._saved, self._saved_at = len(self._results), time.monotonic()
        self._cost = self._saved_at - began

    def __enter__(self) -> Journal:
        self._stop = self._stack.enter_context(between_steps())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop = _go_on
        with self._stack:
            self.save()

    def _next(self, system: System, wanted: frozenset[str]) -> Result | None:
        """The next recorded result if it answers this question; if it answers another, the rest is forgotten."""
        if self._asked == len(self._results):
            return None
        result = self._results[self._asked]
        if not (_same(result.system, system) and _has(result, wanted)):
            del self._results[self._asked :]
            self._memory = {}
            return None
        self._asked += 1
        return result

    def _restore_memory(self) -> None:
        """Let the method remember what it did after the last recorded result, and nothing of another journal."""
        method = methods.remembering(self.method)
        if method is not None and self._memory is not None:
            method.recall(self._memory)
        self._memory = None

    def _remembered(self) -> dict[str, Any]:
        method = methods.remembering(self.method)
        return {} if method is None else method.memory() if self._memory is None else self._memory

    def _save_if_due(self) -> None:
        if time.monotonic() - self._saved_at >= self._cost / SAVE_SHARE:
            self.save()


def going_on(method: Method, system: System, run: Run, task: str) -> str | None:
    """The note for a run's first lines that says where it goes on; None for one that begins at the beginning.

    Raises InputError for a checkpoint of another task, system or method.
    """
    if run.checkpoint is None:
        return None
    number = Journal(method, system, run, task).recorded
    return f"going on after {number} calculation{'' if number == 1 else 's'} ({CHECKPOINT})"


def _go_on() -> None:
    """Outside of the block nobody asks to stop."""


def _identity(system: System, run: Run) -> dict[str, Any]:
    method = OmegaConf.to_container(run.config.method, resolve=True) if "method" in run.config else None
    return {
        "method": method,
        "dtype": run.config.get("dtype"),
        "weights": run.config.get("weights"),
        "symbols": list(system.symbols),
        "charge": system.charge,
        "spin": system.spin,
        "positions_bohr": system.positions.tolist(),
        "cell_bohr": None if system.cell is None else system.cell.tolist(),
    }


def _check_same(found: dict[str, Any], expected: dict[str, Any], run: Run) -> None:
    for key, value in expected.items():
        if found.get(key) != value:
            what = {"positions_bohr": "geometry", "cell_bohr": "cell", "symbols": "system"}.get(key, key)
            raise InputError(f"{run.checkpoint} is of another {what}; leave ckpt out to start from the beginning")


def _same(one: System, other: System) -> bool:
    if (one.cell is None) != (other.cell is None) or one.symbols != other.symbols:
        return False
    near = np.abs(one.positions - other.positions).max() <= SAME_BOHR
    if one.cell is not None and other.cell is not None:
        near = near and np.abs(one.cell - other.cell).max() <= SAME_BOHR
    return bool(near)


def _copied(result: Result) -> Result:
    """A result to which its reader may add what it derives; the record stays as it was answered."""
    return replace(result, properties=dict(result.properties), details=dict(result.details))


def _has(result: Result, wanted: frozenset[str]) -> bool:
    """Whether the result has all that is wanted; one that failed has all there is."""
    return result.status != "ok" or wanted - {"energy", "energy_std", "energy_stderr"} <= set(result.properties)


def _packed(results: Sequence[Result]) -> dict[str, Any]:
    """Equal arrays of all results stacked: thousands of small ones would take long to write."""
    names = sorted({name for result in results for name in result.properties})
    properties = {}
    for name in names:
        having = [number for number, result in enumerate(results) if name in result.properties]
        properties[name] = {
            "of": having,
            "values": np.stack([np.asarray(results[number].properties[name]) for number in having]),
        }
    cells = [result.system.cell for result in results if result.system.cell is not None]
    return {
        "positions": np.stack([result.system.positions for result in results]),
        "cells": np.stack(cells) if cells else None,
        "properties": properties,
        "fields": [
            [
                result.status,
                result.energy,
                result.energy_stderr,
                result.energy_std,
                plain(result.details),
                result.message,
                result.warnings,
            ]
            for result in results
        ],
    }


def _unpacked(calls: dict[str, Any], system: System) -> list[Result]:
    results = []
    for number, (status, energy, stderr, std, details, message, *warnings) in enumerate(calls["fields"]):
        cell = None if calls["cells"] is None else calls["cells"][number]
        there = system.moved(calls["positions"][number], cell)
        result = Result(there, status, energy, stderr, std, details=details, message=message)
        result.warnings = list(*warnings)  # checkpoints of earlier versions have none
        results.append(result)
    for name, part in calls["properties"].items():
        for number, value in zip(part["of"], part["values"], strict=True):
            results[number].properties[name] = value if np.ndim(value) else float(value)
    return results


def plain(value: Any) -> Any:
    """Nested containers with arrays as lists."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value
