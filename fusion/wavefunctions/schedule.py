"""The phases of a Monte Carlo run and how each samples."""

from __future__ import annotations

from dataclasses import dataclass

PHASES = ("pretraining", "optimising", "evaluating")


@dataclass(frozen=True)
class Schedule:
    """How long each phase is and how it samples; the method's settings, see conf/kind/ansatz.yaml for each of them."""

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
    spin_every: int

    def total(self, phase: str) -> int:
        """Number of iterations of a phase."""
        steps = (self.pretraining_steps, self.optimisation_steps, self.evaluation_steps)
        return steps[PHASES.index(phase)]
