"""Geometries near a reference, calculated at the same time by processes that each build the method again.

Every geometry starts from the method's memory of the reference, such as its density. The results therefore do not
depend on the order or on the number of processes.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from fusion.chemistry.system import System
from fusion.errors import CalculationError
from fusion.methods import abilities
from fusion.methods.protocol import Method
from fusion.parallel.memory import available_memory
from fusion.runs.results import Result

_THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_MEMORY: Final = "memory_mb"
"""Setting of methods that keep integrals; null means half of the free memory, which the processes share."""
_PATIENCE_S: Final = 5.0


@dataclass(frozen=True)
class Share:
    """Number of processes, and of threads of each."""

    processes: int
    threads: int


class Separate:
    """Calculations of `method` in processes; `settings` is its node of the configuration.

    With one process, the calculations take place in this one. Use it as a context manager: its end stops the processes.
    """

    def __init__(self, method: Method, settings: Mapping[str, Any], share: Share) -> None:
        self._method, self._settings, self._share = method, dict(settings), share
        self._memory: dict[str, Any] | None = None
        self._workers: list[_Worker] = []

    @property
    def size(self) -> int:
        """Number of geometries to calculate at a time."""
        return self._share.processes

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        """Return one result for each of at most `size` systems. Raises what the method raises."""
        properties = frozenset(properties)
        if self._memory is None:
            remembering = abilities.remembering(self._method)
            self._memory = {} if remembering is None else remembering.memory()
        if self._share.processes == 1:
            try:
                return [calculated(self._method, self._memory, system, properties) for system in systems]
            finally:  # the geometries leave no trace, as in other processes
                if (remembering := abilities.remembering(self._method)) is not None:
                    remembering.recall(self._memory)
        while len(self._workers) < len(systems):
            self._workers.append(_Worker(self._divided(), self._memory, self._share.threads))
        workers = self._workers[: len(systems)]
        for worker, system in zip(workers, systems, strict=True):
            worker.send((system, properties))
        return [worker.result() for worker in workers]

    def __enter__(self) -> Separate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.stop(at_once=kind is not None)
        self._workers = []

    def _divided(self) -> dict[str, Any]:
        """Settings of the method in one of the processes, with its part of the memory."""
        if _MEMORY not in self._settings or self._settings[_MEMORY] is not None:
            return self._settings
        return self._settings | {_MEMORY: 0.5e-6 * available_memory() / self._share.processes}


def calculated(method: Method, memory: Mapping[str, Any], system: System, properties: frozenset[str]) -> Result:
    """Return the result of one geometry, from a memory of the method."""
    remembering = abilities.remembering(method)
    if remembering is not None:
        remembering.recall(memory)
    (result,) = method.calculate([system], properties)
    return result


class _Worker:
    """Process of `fusion.methods.separate_worker`."""

    def __init__(self, settings: Mapping[str, Any], memory: Mapping[str, Any], threads: int) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fusion.methods.separate_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | dict.fromkeys(_THREADS, str(threads)),
            start_new_session=True,  # Ctrl-C is for the main process, which stops this one
        )
        self.send((settings, memory))

    def send(self, message: Any) -> None:
        """Send a request. Raises CalculationError if the process has ended."""
        assert self._process.stdin is not None
        try:
            pickle.dump(message, self._process.stdin)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise CalculationError(self._why()) from None

    def result(self) -> Result:
        """Wait for the answer; raise the error of the calculation, or CalculationError if the process has ended."""
        assert self._process.stdout is not None
        try:
            answer = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError):
            raise CalculationError(self._why()) from None
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Result)
        return answer

    def stop(self, at_once: bool) -> None:
        """End the process: when it has nothing left to do, or at once."""
        assert self._process.stdin is not None and self._process.stdout is not None
        if at_once:
            self._process.kill()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _why(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else "no reason is known"
        if status < 0:
            reason = f"signal {-status}, perhaps for lack of memory: executor.workers=1 needs less"
        return f"a process of the displaced geometries ended: {reason}"
