"""Phases of a Monte Carlo run with their sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusion.wavefunctions.statistics import blocked

PHASES = ("pretraining", "optimising", "evaluating")


@dataclass(frozen=True)
class Schedule:
    """Length and sampling of each phase, from the method's settings; conf/kind/ansatz.yaml describes each.

    `transfer` is the share of the optimisation steps that a wavefunction of another geometry still gets. With `until`
    or `evaluation_stderr` (hartree), the steps of a phase are its largest number.
    """

    walkers: int
    chunk: int
    pretraining_steps: int
    pretraining_rate: float
    burn_in: int
    moves: int
    optimisation_steps: int
    clip: float
    evaluation_steps: int
    evaluation_moves: int
    transfer: float = 1.0
    until: float | None = None
    evaluation_stderr: float | None = None

    @property
    def before_transfer(self) -> int:
        """Optimisation steps that count as done at the wavefunction of another geometry."""
        return self.optimisation_steps - math.ceil(self.transfer * self.optimisation_steps)

    def total(self, phase: str) -> int:
        """Number of iterations of a phase."""
        steps = (self.pretraining_steps, self.optimisation_steps, self.evaluation_steps)
        return steps[PHASES.index(phase)]


FIRST_ESTIMATE = 100
"""Iterations of an evaluation after which its length is estimated from the error so far."""


def evaluation_steps(energies: Sequence[float], schedule: Schedule) -> int:
    """Number of iterations for the wanted error, as far as the ``energies`` (hartree) of the evaluation tell.

    The error falls with the square root of the number; it is estimated again whenever that number is reached.
    """
    most, wanted = schedule.evaluation_steps, schedule.evaluation_stderr
    if wanted is None:
        return most
    steps = min(FIRST_ESTIMATE, most)
    while steps < most and steps <= len(energies):
        error = blocked(np.array(energies[:steps])).stderr
        if not error > wanted:  # also without an error: further iterations repair no energy that is not finite
            break
        steps = min(most, max(steps + 10, math.ceil(steps * (error / wanted) ** 2)))
    return steps
