"""Plan and run diffusion Monte Carlo, after a training or from the checkpoint of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fusion.chemistry.electron_gas import wigner_seitz_radius
from fusion.config.checks import check_number, check_whole
from fusion.errors import InputError
from fusion.runs.layout import CHECKPOINT
from fusion.wavefunctions.diffusion import BLOCK, phase_of
from fusion.wavefunctions.schedule import PHASES
from fusion.wavefunctions.training import WavefunctionPlan, WavefunctionTraining, fit

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.runs.results import Result
    from fusion.runs.run import Run
    from fusion.runs.task import Title
    from fusion.wavefunctions.diffusion.module import DiffusionSchedule

LARGEST = 0.02
"""Largest default time step, 1/hartree: valence electrons alone would allow it. That of an electron gas is this times
r_s^2, since kinetic energies are proportional to r_s^-2."""

PER_CHARGE = 0.04
"""Default time step in units of 1/Z of the heaviest nucleus: core electrons turn faster."""


@dataclass(frozen=True)
class DiffusionPlan(WavefunctionPlan):
    """Training with the phases of diffusion after it."""

    diffusion: DiffusionSchedule


class WavefunctionDiffusion(WavefunctionTraining):
    """Diffusion Monte Carlo with the wavefunction of ``run.checkpoint``, or one that is trained first."""

    moves, keeps_evaluation = False, True

    def __init__(self, name: str, time_steps: Sequence[float] | None, steps: int, equilibration: int) -> None:
        super().__init__(name)
        check_whole("task.steps", steps, 20)
        check_whole("task.equilibration", equilibration, 0)
        if equilibration > steps - 10:
            raise InputError(f"task.equilibration={equilibration} must leave at least 10 of task.steps={steps}")
        _check_time_steps(time_steps)
        self._time_steps, self._steps, self._equilibration = time_steps, steps, equilibration

    def check(self, method: Method, system: System, run: Run) -> DiffusionPlan:
        """Plan the training, and after it the diffusion. Raise InputError as for a training.

        From the checkpoint of another run, the wavefunction is not optimised further, and is evaluated unless that run
        has done so with as many walkers and the same estimators.
        """
        from fusion.runs.state import is_own
        from fusion.wavefunctions.diffusion.module import DiffusionSchedule

        if system.cores:
            raise InputError(
                f"task={self.name} cannot branch with the signs of effective core potentials: remove system.ecp"
            )
        plan = super().check(method, system, run)
        schedule = plan.schedule
        if run.checkpoint is not None and not is_own(run):
            steps = {"pretraining_steps": plan.done["pretraining"], "optimisation_steps": plan.done["optimising"]}
            schedule = replace(schedule, **steps)
        largest = _largest_time_step(system)
        times = tuple(self._time_steps or (largest, largest / 2))
        diffusion = DiffusionSchedule(times, self._steps, self._equilibration)
        return DiffusionPlan(**{**vars(plan), "schedule": schedule}, diffusion=diffusion)

    def title(self, plan: WavefunctionPlan, run: Run) -> Title:
        """Title of the training, with time steps and their cost, and a warning about an untrained guide."""
        from fusion.console.format import duration

        assert isinstance(plan, DiffusionPlan)
        parts, notes = super().title(plan, run)
        times = ", ".join(f"{tau:g}" for tau in plan.diffusion.time_steps)
        steps = plan.diffusion.steps * len(plan.diffusion.time_steps) - BLOCK * sum(_diffused(plan, run).values())
        notes = (
            *notes,
            f"then {plan.diffusion.steps} steps of fixed-node diffusion at time step {times} 1/Ha, "
            f"about {duration(max(0, steps) * plan.cost.energy_s)}",
        )
        if plan.schedule.optimisation_steps == 0 and plan.method.weights is None:
            notes = (*notes, "the wavefunction has not been optimised: its nodes limit the energy")
        return parts, notes

    def run(self, plan: WavefunctionPlan, run: Run) -> Result:
        """Run the remaining iterations of all phases."""
        from fusion.wavefunctions.diffusion.module import DiffusionMonteCarlo
        from fusion.wavefunctions.diffusion.outcome import diffused

        assert isinstance(plan, DiffusionPlan)
        schedule = plan.schedule
        steps = {"pretraining_steps": schedule.pretraining_steps, "optimisation_steps": schedule.optimisation_steps}
        arguments: Any = plan.method.arguments(plan.system, **steps)
        return fit(DiffusionMonteCarlo(*arguments, diffusion=plan.diffusion), run, diffused, plan.start)

    def _start(self, plan: WavefunctionPlan, run: Run) -> str | None:
        """Note on the start: within the diffusion, the time step and the step that it resumes from."""
        from fusion.runs.state import is_own

        assert isinstance(plan, DiffusionPlan)
        done = {phase: count for phase, count in _diffused(plan, run).items() if count}
        if not done:
            evaluated = plan.done["evaluating"] if run.checkpoint is not None and not is_own(run) else 0
            note = super()._start(plan, run)
            return f"{note}, with its evaluation of {evaluated} steps" if note and evaluated else note
        phase, blocks = list(done.items())[-1]
        step = min(BLOCK * blocks, plan.diffusion.steps)
        return f"resuming from step {step} of {plan.diffusion.steps} of {phase} 1/Ha ({CHECKPOINT})"


def _check_time_steps(time_steps: Any) -> None:
    """Raise InputError unless the time steps are None or a list of different positive numbers."""
    if time_steps is None:
        return
    if isinstance(time_steps, str) or not isinstance(time_steps, Sequence):
        raise InputError(f"task.time_steps must be a list such as [0.02,0.01] (1/hartree), not {time_steps!r}")
    if not time_steps:
        raise InputError("task.time_steps is empty; null chooses them by the heaviest nucleus")
    for tau in time_steps:
        check_number("task.time_steps: each time step (1/hartree)", tau, positive=True)
    if len({phase_of(tau) for tau in time_steps}) < len(time_steps):
        raise InputError(f"task.time_steps={list(time_steps)} has a time step twice; name each once")


def _largest_time_step(system: System) -> float:
    """Largest default time step, 1/hartree."""
    if system.is_electron_gas:
        return LARGEST * wigner_seitz_radius(system) ** 2
    return min(LARGEST, PER_CHARGE / max(system.numbers))


def _diffused(plan: DiffusionPlan, run: Run) -> dict[str, int]:
    """Blocks of every time step that the run's own checkpoint has done.

    None if its time steps are other ones, or if the wavefunction is optimised further first.
    """
    from fusion.runs.state import is_own

    phases = {phase: count for phase, count in plan.done.items() if phase not in PHASES}
    if plan.schedule.until is None and plan.done["optimising"] < plan.schedule.optimisation_steps:
        return {}
    same = list(phases) == [phase_of(tau) for tau in plan.diffusion.time_steps]
    return phases if run.checkpoint is not None and is_own(run) and same else {}
