"""Plan and run the optimisation and evaluation of several states of a wavefunction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch

from fusion.chemistry.units import EV_PER_HARTREE
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
        """Plan the run. Raise InputError as for a training, for a single state, for a wavefunction of the zoo, and for
        a pretraining of too few determinants."""
        states = cast(Any, method).states
        if states < 2:
            raise InputError(f"task={self.name} calculates several states: method.states=3 or more, for example")
        if run.config.get("weights") is not None:
            raise InputError(f"task={self.name} does not start at a wavefunction of the zoo; leave out weights")
        plan = super().check(method, system, run)
        if plan.moved:
            raise InputError(f"{run.checkpoint} belongs to another system: {system.formula} with another geometry")
        if not plan.schedule.pretraining_steps:
            return plan
        from fusion.wavefunctions.excited.pretraining import StatePretraining

        with torch.random.fork_rng():
            matrix = cast(Any, method).ansatz(system)
            pure = cast(Any, method).hamiltonian(system).spin_penalty is not None
            target = StatePretraining(matrix, system, learning_rate=0.0, pure_spin=pure)
        return replace(plan, levels=target.levels)

    def title(self, plan: WavefunctionPlan, run: Run) -> Title:
        """Title of a training with the number of states, and a note on an incomplete level."""
        parts, notes = super().title(plan, run)
        states = cast(Any, plan.method).states
        more = (described(plan.levels), incomplete(plan.levels, states))
        return (*parts[:2], f"{states} states", *parts[2:]), (*notes, *(note for note in more if note))

    def run(self, plan: WavefunctionPlan, run: Run) -> Result:
        """Run the remaining iterations of all phases."""
        from fusion.wavefunctions.excited.outcome import excited

        return fit(cast(Any, plan.method).module(plan.system), run, excited)


def described(levels: Sequence[float]) -> str | None:
    """Levels at the start in eV above the first, with their numbers of states; the last may have further ones."""
    if not levels:
        return None
    groups = [[levels[0]]]
    for energy in levels[1:]:
        if energy - groups[-1][-1] > SAME_LEVEL:
            groups.append([])
        groups[-1].append(energy)
    texts = [
        f"{(group[0] - levels[0]) * EV_PER_HARTREE:.2f}{f' ({len(group)} states)' if len(group) > 1 else ''}"
        for group in groups
    ]
    return f"levels at the start: {', '.join(texts)} eV"


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
