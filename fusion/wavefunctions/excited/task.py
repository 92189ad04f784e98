"""Plan and run the optimisation and evaluation of several states of a wavefunction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

from fusion.errors import InputError
from fusion.wavefunctions.training import WavefunctionPlan, WavefunctionTraining, fit

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.runs.results import Result
    from fusion.runs.run import Run
    from fusion.runs.task import Title

SAME_LEVEL = 1e-4
"""Difference (hartree) of energies at the start below which states belong to one level."""


class WavefunctionStates(WavefunctionTraining):
    """Optimisation of the lowest states at once, ``method.states`` of them, and their evaluation."""

    takes_states = True

    def check(self, method: Method, system: System, run: Run) -> WavefunctionPlan:
        """Plan the run. Raise InputError as for a training, for a single state, and for a wavefunction of the zoo."""
        states = cast(Any, method).states
        if states < 2:
            raise InputError(f"task={self.name} calculates several states: method.states=3 or more, for example")
        if run.config.get("weights") is not None:
            raise InputError(f"task={self.name} does not start at a wavefunction of the zoo; leave out weights")
        plan = super().check(method, system, run)
        if plan.moved:
            raise InputError(f"{run.checkpoint} belongs to another system: {system.formula} with another geometry")
        return plan

    def title(self, plan: WavefunctionPlan, run: Run) -> Title:
        """Title of a training with the number of states, and a note on an incomplete level."""
        parts, notes = super().title(plan, run)
        method = cast(Any, plan.method)
        with torch.random.fork_rng():
            levels = method.ansatz(plan.system).levels
        states, advice = method.states, incomplete(levels, method.states)
        return (*parts[:2], f"{states} states", *parts[2:]), (*notes, *([advice] if advice else []))

    def run(self, plan: WavefunctionPlan, run: Run) -> Result:
        """Run the remaining iterations of all phases."""
        from fusion.wavefunctions.excited.outcome import excited

        return fit(cast(Any, plan.method).module(plan.system), run, excited)


def incomplete(levels: Sequence[float], states: int) -> str | None:
    """Note on a last state whose level has further states, with the numbers of states that complete a level.

    `levels` are energies (hartree) of the states at the start, and of some more.
    """
    if len(levels) <= states or levels[states] - levels[states - 1] > SAME_LEVEL:
        return None
    ends = [n for n in range(2, len(levels)) if levels[n] - levels[n - 1] > SAME_LEVEL]
    near = (max((n for n in ends if n < states), default=None), min((n for n in ends if n > states), default=None))
    choices = " or ".join(f"method.states={n}" for n in near if n is not None)
    arbitrary = "the last state belongs to a level with further states, so that it is arbitrary"
    return f"{arbitrary}: {choices}" if choices else arbitrary
