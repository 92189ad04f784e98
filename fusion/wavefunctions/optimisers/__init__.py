"""Optimisers of a wavefunction's parameters behind one interface.

An optimiser turns walkers and the deviations of their (clipped) local energies into a change of the parameters. The
energy gradient is 2 <(E_L - E) O> with the scores O = d log|psi| / d theta; natural gradients multiply it by the
inverse of the Fisher (quantum geometric) matrix of |psi|^2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from fusion.config.checks import check_number
from fusion.wavefunctions.scores import ScoreRecorder, Step


@dataclass(frozen=True)
class InverseDecay:
    """rate / (1 + t / delay), the schedule of the published runs. Raises InputError for values out of range."""

    rate: float
    delay: float

    def __post_init__(self) -> None:
        check_number("method.optimiser: the rate of a learning rate", self.rate)
        check_number("method.optimiser: the delay of a learning rate", self.delay, positive=True)

    def __call__(self, iteration: int) -> float:
        return self.rate / (1 + iteration / self.delay)


@dataclass(frozen=True)
class Constant:
    """Constant rate."""

    rate: float

    def __call__(self, iteration: int) -> float:
        return self.rate


class Schedule(Protocol):
    """Learning rate as a function of the iteration."""

    def __call__(self, iteration: int) -> float: ...


class Optimiser(Protocol):
    """Optimiser as the safeguarded optimisation needs it."""

    caution: float
    """At least 1: multiplies the damping (divides the learning rate if there is none) after rejected steps."""

    def rate(self, iteration: int, deviation: Tensor) -> float:
        """Learning rate of a step with these arguments of ``step``, before its size is bounded."""
        ...

    def step(self, electrons: Tensor, deviation: Tensor, iteration: int) -> Step:
        """Return the change to add to the parameters, identical on all ranks.

        Args:
            electrons: this rank's walkers (B, N, 3).
            deviation: clipped local energy minus its mean for the walkers of all ranks, hartree, float64.
            iteration: number of the optimisation step, for schedules.
        """
        ...

    def reset(self) -> None:
        """Reset momentum after a rejected step."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class RecordsScores(Protocol):
    """Optimiser that records the scores of all walkers, whose memory is part of the estimate before a run."""

    scores: ScoreRecorder
