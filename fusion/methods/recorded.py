"""Journal of a task's calculations, so that a resumed run repeats none of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.methods import abilities, protocol
from fusion.methods.protocol import Method
from fusion.methods.separate import Separate
from fusion.parallel import processes
from fusion.runs.layout import CHECKPOINT
from fusion.runs.results import Result
from fusion.runs.run import Run
from fusion.runs.signals import between_steps
from fusion.runs.state import read_state, write_state
from fusion.runs.warning_summary import counted

SAVE_SHARE = 0.05
"""Largest share of the time spent on saving; a kill then loses at most the work of twenty times a saving."""

SAME_BOHR = 1e-8
"""Positions that differ by less are the same: a repeated run reproduces them up to rounding."""

_CHUNK_S = 2.0


class Journal:
    """A `Method` that records the results of another one in the run's checkpoint, and replays recorded results.

    An algorithm that depends only on these results (an optimiser, a band of images, finite differences) resumes by
    starting again: it receives the recorded results at once and bit for bit, so that its result and its files are those
    of an uninterrupted run. Results are replayed in the order of the requests; at the first request that differs the
    remaining ones are discarded. The checkpoint also holds the memory of a method that has one.

    Derived forces are recorded as forces. A list of systems is calculated in parts, each saved when it is done. Use the
    journal as a context manager: all results are saved whatever ends the block, and Ctrl-C or SIGTERM give the
    calculation in progress some seconds to end. Raises InputError for a checkpoint of another task, system or method.
    """

    def __init__(self, method: Method, system: System, run: Run, task: str) -> None:
        self.method, self.name, self.kind, self.label = method, method.name, method.kind, method.label
        self.energy_zero = method.energy_zero
        self.watch: Callable[[int], None] | None = None
        """Called with the number of systems done after each part of a list."""
        self.separate: Separate | None = None
        """Processes that calculate a list of several systems; None: the method itself does."""
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
        self._position, self._size = 0, 1
        self._stack, self._stop = ExitStack(), _never_stop
        self._saved, self._saved_at, self._cost = self.recorded, time.monotonic(), 0.0

    @property
    def provides(self) -> frozenset[str]:
        """Properties that the method provides, and forces if the core derives them."""
        return self.method.provides | (protocol.available(self.method) & {"forces"})

    def check(self, systems: Sequence[System], properties: Iterable[str] = ()) -> None:
        """Raise the method's own InputError for systems that it cannot calculate."""
        abilities.check(self.method, systems, frozenset(properties) & self.method.provides)

    @counted
    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        """Return recorded results as far as they match, then those of `methods.calculate`."""
        requested = frozenset(properties)
        results: list[Result] = []
        while len(results) < len(systems):
            recorded = self._next(systems[len(results)], requested)
            if recorded is None:
                break
            results.append(_copied(recorded))
        if len(results) < len(systems):
            self._restore_memory()
        while len(results) < len(systems):
            began = time.monotonic()
            calculated = self._calculated(systems[len(results) :], len(systems) > 1, requested)
            self._results += map(_copied, calculated)
            self._position += len(calculated)
            results += calculated
            self._save_if_due()
            self._stop()
            if self.watch is not None:
                self.watch(len(results))
            # Larger parts are cheaper, but a kill loses more.
            short = time.monotonic() - began < _CHUNK_S
            if len(calculated) == self._size and short and abilities.remembering(self.method) is None:
                self._size *= 2
        return results

    def _calculated(self, left: Sequence[System], listed: bool, requested: frozenset[str]) -> list[Result]:
        """Results of the first of the systems that are left, of one or of a list."""
        if self.separate is not None and listed and requested <= self.method.provides:
            return self.separate.calculate(left[: self.separate.size], requested)
        return protocol.calculate(self.method, left[: self._size], requested)

    def at(self, system: System, properties: Iterable[str]) -> Result:
        """The result for a geometry, from any earlier request if there is one, else calculated."""
        requested = frozenset(properties)
        for result in reversed(self._results[: self._position]):
            if _same(result.system, system) and _has(result, requested):
                return _copied(result)
        return protocol.calculate(self, [system], requested)[0]

    def save(self) -> None:
        """Write the checkpoint if there are new results."""
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
        self._stop = _never_stop
        with self._stack:
            self.save()

    def _next(self, system: System, requested: frozenset[str]) -> Result | None:
        """The next recorded result if it matches the request; otherwise discard the remaining ones and return None."""
        if self._position == len(self._results):
            return None
        result = self._results[self._position]
        if not (_same(result.system, system) and _has(result, requested)):
            del self._results[self._position :]
            self._memory = {}
            return None
        self._position += 1
        return result

    def _restore_memory(self) -> None:
        """Give the method its memory after the last recorded result, free of any other journal's."""
        method = abilities.remembering(self.method)
        if method is not None and self._memory is not None:
            method.recall(self._memory)
        self._memory = None

    def _remembered(self) -> dict[str, Any]:
        method = abilities.remembering(self.method)
        return {} if method is None else method.memory() if self._memory is None else self._memory

    def _save_if_due(self) -> None:
        if time.monotonic() - self._saved_at >= self._cost / SAVE_SHARE:
            self.save()


def resume_note(method: Method, system: System, run: Run, task: str) -> str | None:
    """Note on a resumed run for its title; None for a new run.

    Raises InputError for a checkpoint of another task, system or method.
    """
    if run.checkpoint is None:
        return None
    number = Journal(method, system, run, task).recorded
    return f"resuming after {number} calculation{'' if number == 1 else 's'} ({CHECKPOINT})"


def _never_stop() -> None:
    """Do nothing: outside the block signals act at once."""


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
        "core potential": [[core.symbol, core.as_pyscf()] for core in system.cores] or None,
    }


def _check_same(stored: dict[str, Any], expected: dict[str, Any], run: Run) -> None:
    for key, value in expected.items():
        if stored.get(key) != value:
            difference = {"positions_bohr": "geometry", "cell_bohr": "cell", "symbols": "system"}.get(key, key)
            raise InputError(
                f"{run.checkpoint} belongs to another {difference}; remove ckpt to start from the beginning"
            )


def _same(first: System, second: System) -> bool:
    if (first.cell is None) != (second.cell is None) or first.symbols != second.symbols:
        return False
    near = np.abs(first.positions - second.positions).max() <= SAME_BOHR
    if first.cell is not None and second.cell is not None:
        near = near and np.abs(first.cell - second.cell).max() <= SAME_BOHR
    return bool(near)


def _copied(result: Result) -> Result:
    """Copy a result, so that a caller may add to its properties and details without changing the record."""
    return replace(result, properties=dict(result.properties), details=dict(result.details))


def _has(result: Result, requested: frozenset[str]) -> bool:
    """True if the result has the requested properties; a failed result always counts as complete."""
    return result.status != "ok" or requested - {"energy", "energy_std", "energy_stderr"} <= set(result.properties)


def _packed(results: Sequence[Result]) -> dict[str, Any]:
    """Content for the checkpoint, with the arrays of all results stacked: thousands of small ones are slow to write."""
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
        moved = system.moved(calls["positions"][number], cell)
        result = Result(moved, status, energy, stderr, std, details=details, message=message)
        result.warnings = list(*warnings)  # checkpoints of earlier versions have none
        results.append(result)
    for name, part in calls["properties"].items():
        for number, value in zip(part["of"], part["values"], strict=True):
            results[number].properties[name] = value if np.ndim(value) else float(value)
    return results


def plain(value: Any) -> Any:
    """Convert arrays in nested containers to lists."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value
