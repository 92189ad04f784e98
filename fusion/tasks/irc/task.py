"""Intrinsic reaction coordinate from a transition state to the two minima it connects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.config.checks import check_number, check_switch, check_whole
from fusion.errors import InputError
from fusion.methods import protocol
from fusion.parallel import processes
from fusion.runs.results import Result
from fusion.runs.task import Plan, Title
from fusion.tasks.relax import relaxation as relaxing
from fusion.tasks.ts.outcome import outcome
from fusion.tasks.ts.task import TransitionState, descend

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.runs.run import Run

_FILES = ("irc.extxyz", "irc_backward.xyz", "irc_forward.xyz", "ts_mode.xyz")


class ReactionCoordinate:
    """Follows the intrinsic reaction coordinate from the system in both directions and relaxes the minima at the ends.

    The system must be a transition state with forces below `fmax` (hartree/bohr). Each side has at most `points`.
    """

    needs = frozenset({"energy", "forces", "hessian"})

    def __init__(
        self,
        points: int,
        optimiser: Mapping[str, Any],
        fmax: float,
        steps: int,
        noise_cm1: float = 20.0,
        zero_point: bool = True,
        name: str = "irc",
    ) -> None:
        self.name, self._points, self._noise, self._zero_point = name, points, noise_cm1, zero_point
        self._settings = relaxing.Settings(optimiser, fmax, steps)

    def check(self, method: Method, system: System, run: Run) -> Plan:
        """Raises InputError for wrong settings, a periodic system, a method without forces, a foreign checkpoint."""
        from fusion.methods.recorded import resume_note

        if any(system.pbc):
            raise InputError(f"task={self.name} is for molecules; {system.name} is periodic")
        if len(system.symbols) < 3:
            raise InputError(f"task={self.name} needs at least 3 atoms; {system.name} has {len(system.symbols)}")
        check_whole("task.points", self._points)
        check_number("task.noise_cm1", self._noise)
        check_switch("task.zero_point", self._zero_point)
        relaxing.check_settings(self._settings, system)
        protocol.require(method, self.needs, f"task {self.name}", [system])
        resume_note(method, system, run, self.name)
        return Plan(method, system)

    def title(self, plan: Plan, run: Run) -> Title:
        """Method and system for the title, and a note on a resumed run."""
        from fusion.methods.recorded import resume_note
        from fusion.runs.report import title_of

        note = resume_note(plan.method, plan.system, run, self.name)
        parts = (plan.method.label, title_of(plan.system), "downhill from the transition state in both directions")
        return parts, (note,) if note else ()

    def run(self, plan: Plan, run: Run) -> Result:
        """Return the result at the transition state, with the path in its details; write irc.extxyz and the minima."""
        from fusion.methods.recorded import Journal
        from fusion.tasks.geometry import geometric
        from fusion.tasks.ts import saddle
        from fusion.tasks.ts.barriers import barriers

        if processes.rank() != 0:  # only the first process calculates
            return Result(plan.system)
        log = run.directory / geometric.LOG
        log.unlink(missing_ok=True)
        with Journal(plan.method, plan.system, run, self.name) as journal:
            transition_state = saddle.verify(saddle.hessian_at(journal, plan.system), self._settings.fmax, self._noise)
            details: dict[str, Any] = {"transition_state": saddle.describe(transition_state)}
            saddle.write_mode(run.directory / "ts_mode.xyz", transition_state)
            if transition_state.failure is None:
                details["irc"], *ends = descend(journal, transition_state, self._points, self._settings, log, {}, run)
                details["barriers"] = barriers(
                    journal, ends[0], transition_state, ends[1], self._noise, self._zero_point
                )
        result = outcome(transition_state, details)
        if transition_state.failure is not None:
            result.message = f"{transition_state.failure}; find the transition state first with task=ts"
        return result

    rows = staticmethod(TransitionState.rows)
    draw = staticmethod(TransitionState.draw)
    trajectories = staticmethod(TransitionState.trajectories)

    @staticmethod
    def files(directory: Path) -> list[str]:
        """Names of the files written."""
        return [name for name in _FILES if (directory / name).is_file()]
