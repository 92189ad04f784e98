"""Calculations of a comparison: ordinary runs that also measure their cost."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.methods import protocol
from fusion.methods.ensemble import MEMBERS
from fusion.tasks.energy.task import Energy
from fusion.tasks.excited.task import ExcitedStates
from fusion.tasks.train.task import Train

if TYPE_CHECKING:
    import psutil

    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.runs.results import Result
    from fusion.runs.run import Run
    from fusion.runs.task import Plan

COST = "cost"
_SHORT_S = 60.0


class MeasuredEnergy(Energy):
    """Energy, forces if `forces`, and the members' energies of an ensemble, as far as the method provides them.

    A calculation by a potential that takes less than a minute is repeated, and the second one gives the cost.
    """

    def __init__(self, forces: bool = True, name: str = "energy") -> None:
        super().__init__(name)
        self._forces = forces

    def run(self, plan: Plan, run: Run) -> Result:
        with measuring() as cost:
            result = super().run(plan, run)
        if plan.method.kind == "potential" and result.status == "ok" and cost["wall_s"] < _SHORT_S:
            # The first calculation also reads and compiles the model, which takes longer than the work itself.
            with measuring() as cost:
                super().run(plan, run)
        result.details[COST] = cost
        return result

    def _properties(self, method: Method, system: System) -> frozenset[str]:
        wanted = {"forces", "forces_stderr", MEMBERS} if self._forces else {MEMBERS}
        return self.needs | protocol.offered(method, wanted, [system])


class MeasuredTraining(Train):
    """Optimisation and evaluation of a wavefunction. After an interruption only the cost of the last part counts."""

    def run(self, plan: Plan, run: Run) -> Result:
        with measuring() as cost:
            result = super().run(plan, run)
        result.details[COST] = cost | ({"since_interruption": True} if run.checkpoint is not None else {})
        return result


class MeasuredExcited(ExcitedStates):
    """Excited states. After an interruption of a wavefunction only the cost of the last part counts."""

    def run(self, plan: Plan, run: Run) -> Result:
        with measuring() as cost:
            result = super().run(plan, run)
        result.details[COST] = cost | ({"since_interruption": True} if run.checkpoint is not None else {})
        return result


@contextmanager
def measuring() -> Iterator[dict[str, Any]]:
    """Yield a dictionary that holds the cost of the block when it ends.

    `wall_s`; `cpu_s` of all threads and called programs; `peak_memory_bytes`, the largest memory that this process and
    programs that still run ever had, libraries included.
    """
    cost: dict[str, Any] = {}
    wall, cpu = time.perf_counter(), _cpu_seconds()
    yield cost
    cost["wall_s"] = time.perf_counter() - wall
    cost["cpu_s"] = _cpu_seconds() - cpu
    cost["peak_memory_bytes"] = peak_memory()


def peak_memory() -> int:
    """Largest memory, bytes, that this process and the programs that it now runs ever had, added up."""
    import psutil

    statuses = [Path(f"/proc/{process.pid}/status") for process in (psutil.Process(), *_running())]
    if statuses[0].is_file():  # getrusage also counts what the parent had when it started this process
        return sum(map(_high_water, statuses))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _high_water(status: Path) -> int:
    """Largest memory of a process, bytes; 0 if it has ended."""
    with suppress(OSError):
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _cpu_seconds() -> float:
    import psutil

    called = os.times()
    seconds = time.process_time() + called.children_user + called.children_system
    for process in _running():
        with suppress(psutil.Error):
            seconds += sum(process.cpu_times()[:4])  # its own, and that of the programs that it has called
    return seconds


def _running() -> list[psutil.Process]:
    """Programs that this process runs, such as a calculator in another environment."""
    import psutil

    return psutil.Process().children(recursive=True)
