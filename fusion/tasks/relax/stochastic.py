"""Relaxation with forces that have error bars, after Chen & Zhang (2022), Nat. Comput. Sci. 2, 736 (arXiv 2204.12074).

Every step has the length L, the displacement of the atom that moves most, along the averaged force

    d_n = (a d_(n-1) + F_n) / (a + 1),    a = 1,

so that noise never makes a step long. Unlike there, the step is along C d, where C is the inverse of a model Hessian
(`fusion.tasks.geometry.model_hessian`), so that soft modes do not wait for stiff ones. A stage ends where the force is
against the last step; L is halved and the average begins anew. It is not halved where the change of the force along
the step is within its noise. The stages end there, once all forces are within their noise as well.

In the last stage `AVERAGED` positions are averaged. With T forces F_n of variance S the mean <x> is off by C <F> (which
the mean force tells) with the covariance C S C / T. The standard error of a position is the root of the sum of both
squares, or that of the scatter of the last positions if it is larger: s^2 / T (1 + f) / (1 - f), where f is their
correlation from step to step. For this the model Hessian is fitted to the changes of the forces along the walk; it
remains a model, right within about a factor of two, for directions in which the walk does not go. Errors of different
atoms are taken as independent, as those of quantum Monte Carlo nearly are.

A last calculation at <x> decides: if no force there is above `fmax` and twice its error, the relaxation has converged;
otherwise the last stage is repeated from there. The net force, the torque of a molecule and the forces on held
coordinates are projected out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from fusion.chemistry import constraints
from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.tasks.geometry import model_hessian
from fusion.tasks.geometry.structures import Trajectory, frame, largest_force
from fusion.tasks.relax.averaged import Mean, mean_of
from fusion.tasks.relax.points import Point, visited

if TYPE_CHECKING:
    from fusion.methods.recorded import Journal

FIRST: Final[float] = 0.1
"""Length of the first steps (bohr)."""

AVERAGED: Final[int] = 16
"""Number of positions that are averaged."""

MEMORY: Final[float] = 1.0
"""Weight a of the earlier forces in the averaged one."""

CHANGE: Final[float] = 2.5
"""Change of the force along a step, in the standard error of the force, below which it is noise."""

Watch = Callable[[int, float, float], None]


@dataclass(frozen=True)
class Descent:
    """End of a relaxation: all points, the length of the step to each (bohr, 0 for the first), and the mean of the last
    positions if there is one."""

    start: System
    points: list[Point]
    lengths: list[float]
    mean: Mean | None
    failure: str | None = None

    @property
    def steps(self) -> int:
        return len(self.points) - 1


class _Walk:
    """Points in the order of calculation, also written to the trajectory."""

    def __init__(self, journal: Journal, frames: Trajectory | None, watch: Watch) -> None:
        self._journal, self._frames, self._watch = journal, frames, watch
        self.points: list[Point] = []
        self.lengths: list[float] = []

    def visit(self, system: System, length: float) -> Point:
        """Calculate a geometry. Raises CalculationError without forces with error bars."""
        point = visited(self._journal, system)
        result = point.result
        self.points.append(point)
        self.lengths.append(length)
        if self._frames is not None:
            remarks = {"energy_stderr_hartree": result.energy_stderr} if result.energy_stderr is not None else {}
            self._frames.add(
                frame(
                    result,
                    step=len(self.points) - 1,
                    largest_force_hartree_per_bohr=point.largest,
                    largest_force_stderr_hartree_per_bohr=point.largest_stderr,
                    step_length_bohr=length,
                    **remarks,
                )
            )
        assert result.energy is not None
        self._watch(len(self.points) - 1, result.energy, point.largest)
        return point

    def step(self, direction: np.ndarray, length: float) -> tuple[Point, np.ndarray]:
        """Go from the last point along `direction` (A, 3); return the new point and the unit displacement (A, 3)."""
        system = self.points[-1].result.system
        modes, _ = model_hessian.scaled_modes(system)
        move = (modes @ (modes.T @ direction.ravel())).reshape(-1, 3)
        move *= length / largest_force(move)
        positions = constraints.placed(system, system.positions + move)
        return self.visit(system.moved(positions), length), move / np.linalg.norm(move)


def descend(
    journal: Journal, system: System, fmax: float, steps: int, trajectory: Path | None, watch: Watch
) -> Descent:
    """Relax `system` to the noise of the journal's forces, or to `fmax` (hartree/bohr) if that is larger.

    `watch(step, energy, force)` is called after every step. If the method fails, the relaxation ends at the last good
    point. Raises CalculationError if the first geometry fails.
    """
    mean, failure = None, None
    with ExitStack() as stack:
        walk = _Walk(journal, stack.enter_context(Trajectory(trajectory)) if trajectory else None, watch)
        try:
            mean = _walked(walk, system, fmax, steps)
        except (CalculationError, InputError) as error:  # an InputError at a later step: atoms collided
            if not walk.points:
                raise
            failure = str(error)
    return Descent(system, walk.points, walk.lengths, mean, failure)


def _walked(walk: _Walk, system: System, fmax: float, steps: int) -> Mean | None:
    """Mean of the last positions, at which the last point of the walk is; None if the steps did not suffice."""
    point = walk.visit(system, 0.0)
    if not point.forces.any():  # a single atom, or held by symmetry: nothing to average
        return mean_of([point], walk.points)
    length = _staged(walk, point, fmax, steps)
    while length is not None:
        averaged, direction = [walk.points[-1]], walk.points[-1].forces
        while len(averaged) < AVERAGED and len(walk.points) <= steps and direction.any():
            point, _ = walk.step(direction, length)
            direction = (MEMORY * direction + point.forces) / (MEMORY + 1.0)
            averaged.append(point)
        if len(averaged) < AVERAGED or len(walk.points) > steps:
            return None
        mean = mean_of(averaged, walk.points)
        last = walk.visit(system.moved(mean.positions), 0.0)
        if not last.above(fmax).any() or len(walk.points) > steps:
            return mean
    return None


def _staged(walk: _Walk, point: Point, fmax: float, steps: int) -> float | None:
    """Walk to the noise of the forces; return the length of the steps there, None if the steps did not suffice."""
    length, direction = FIRST, point.forces
    while len(walk.points) <= steps and direction.any():
        point, along = walk.step(direction, length)
        change = float(((direction - point.forces) * along).sum())
        noise = float(np.linalg.norm(along * point.stderr))
        against = float((point.forces * along).sum()) < 0
        if against and change > max(fmax, CHANGE * noise):
            length, direction = 0.5 * length, point.forces
            continue
        if against and not point.above(fmax).any():
            return 0.5 * length
        direction = (MEMORY * direction + point.forces) / (MEMORY + 1.0)
    return None
