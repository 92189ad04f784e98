"""Phases of a Monte Carlo run with their sampling."""

from __future__ import annotations

from dataclasses import dataclass

PHASES = ("pretraining", "optimising", "evaluating")


@dataclass(frozen=True)
class Schedule:
    """Length and sampling of each phase, from the method's settings; conf/kind/ansatz.yaml describes each."""

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

    def total(self, phase: str) -> int:
        """Number of iterations of a phase."""
        steps = (self.pretraining_steps, self.optimisation_steps, self.evaluation_steps)
        return steps[PHASES.index(phase)]
