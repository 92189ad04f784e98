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
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from fusion.chemistry import constraints
from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.methods import protocol
from fusion.methods.protocol import Method
from fusion.runs.results import Result
from fusion.tasks.geometry import model_hessian
from fusion.tasks.geometry.structures import Trajectory, frame, largest_force

if TYPE_CHECKING:
    from fusion.methods.recorded import Journal

NEEDS: Final = frozenset({"energy", "forces", "forces_stderr"})
FIRST: Final[float] = 0.1
"""Length of the first steps (bohr)."""

AVERAGED: Final[int] = 16
"""Number of positions that are averaged."""

MEMORY: Final[float] = 1.0
"""Weight a of the earlier forces in the averaged one."""

NOISE: Final[float] = 2.0
"""Force in its standard errors below which it is noise."""

CHANGE: Final[float] = 2.5
"""Change of the force along a step, in the standard error of the force, below which it is noise."""

PRIOR: Final[float] = 0.7
"""Standard deviation of the curvature in units of the model's, before the walk tells it."""

RANGE: Final = (0.2, 5.0)
"""Limits of the curvature in units of the model's."""

Watch = Callable[[int, float, float], None]


@dataclass(frozen=True)
class Point:
    """Result at a geometry, with its forces and their standard errors, each (A, 3), along the motions alone."""

    result: Result
    forces: np.ndarray
    stderr: np.ndarray

    @property
    def raw_stderr(self) -> np.ndarray:
        """Standard errors (A, 3) of the method's forces."""
        return np.asarray(self.result.properties["forces_stderr"], dtype=float)

    @property
    def largest(self) -> float:
        """Largest force on an atom, hartree/bohr."""
        return largest_force(self.forces)

    @property
    def largest_stderr(self) -> float:
        """Standard error of the largest force, along that force."""
        norms = np.linalg.norm(self.forces, axis=1)
        worst = int(norms.argmax())
        if not norms[worst] > 0:
            return largest_force(self.stderr)
        return float(np.linalg.norm(self.forces[worst] / norms[worst] * self.stderr[worst]))

    def above(self, fmax: float) -> np.ndarray:
        """Mask of the atoms whose force is above `fmax` and above its noise."""
        bounds = np.maximum(fmax, NOISE * np.linalg.norm(self.stderr, axis=1))
        return np.asarray(np.linalg.norm(self.forces, axis=1) > bounds)


@dataclass(frozen=True)
class Mean:
    """Mean of the last positions (A, 3), and the errors that a function of them with a gradient has."""

    positions: np.ndarray
    series: np.ndarray
    """Positions (T, A, 3)."""
    offset: np.ndarray
    """Displacement (3A,) to the minimum by the mean force and the model Hessian."""
    covariance: np.ndarray
    """Covariance (3A, 3A) of that displacement."""

    def stderr(self, gradient: np.ndarray, series: np.ndarray) -> float:
        """Standard error of the mean of `series` (T,), whose derivative by the positions is `gradient` (3A,)."""
        by_forces = float((gradient @ self.offset) ** 2 + gradient @ self.covariance @ gradient)
        return max(by_forces, variance_of_mean(series)) ** 0.5

    @property
    def positions_stderr(self) -> np.ndarray:
        """Standard errors (A, 3) of the positions."""
        columns = self.series.reshape(len(self.series), -1).T
        errors = [self.stderr(unit, column) for unit, column in zip(np.eye(len(columns)), columns, strict=True)]
        return np.reshape(errors, self.positions.shape)

    def distance(self, first: int, second: int) -> tuple[float, float]:
        """Distance of two atoms and its standard error."""
        vector = self.positions[first] - self.positions[second]
        distance = float(np.linalg.norm(vector))
        gradient = np.zeros_like(self.positions)
        gradient[first], gradient[second] = vector / distance, -vector / distance
        series = np.linalg.norm(self.series[:, first] - self.series[:, second], axis=-1)
        return distance, self.stderr(gradient.ravel(), series)


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


def visited(method: Method, system: System) -> Point:
    """Calculate a geometry. Raises CalculationError without forces with error bars."""
    (result,) = protocol.calculate(method, [system], NEEDS)
    missing = result.energy is None or not NEEDS - {"energy"} <= set(result.properties)
    if result.status not in ("ok", "not_converged") or missing:
        raise CalculationError(f"{method.name}: {result.message or result.status}")
    point = _projected(result)
    if not np.isfinite([point.forces, point.stderr]).all():
        raise CalculationError(f"{method.name}: the forces or their errors are not finite numbers")
    return point


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
        return _mean([point], walk.points)
    length = _staged(walk, point, fmax, steps)
    while length is not None:
        averaged, direction = [walk.points[-1]], walk.points[-1].forces
        while len(averaged) < AVERAGED and len(walk.points) <= steps and direction.any():
            point, _ = walk.step(direction, length)
            direction = (MEMORY * direction + point.forces) / (MEMORY + 1.0)
            averaged.append(point)
        if len(averaged) < AVERAGED or len(walk.points) > steps:
            return None
        mean = _mean(averaged, walk.points)
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


def variance_of_mean(series: np.ndarray) -> float:
    """Variance of the mean of a short series (T,) whose correlation from step to step decays exponentially.

    The correlation f is corrected for the bias (1 + 4 f) / T of a short series (Kendall 1954, Biometrika 41, 403), and
    at least 0 and at most 0.9.
    """
    count, deviations = len(series), series - series.mean()
    total = float(deviations @ deviations)
    if count < 2 or total < 1e-24:
        return 0.0
    correlation = float(deviations[1:] @ deviations[:-1]) / total
    f = min(max((correlation + 1.0 / count) / (1.0 - 4.0 / count), 0.0), 0.9) if count > 4 else 0.9
    return total / (count - 1) / count * (1.0 + f) / (1.0 - f)


def _mean(averaged: list[Point], points: list[Point]) -> Mean:
    """Mean of the positions of some points; its errors need the curvature along the whole walk."""
    series = np.stack([point.result.system.positions for point in averaged])
    system = averaged[0].result.system
    positions = constraints.placed(system, series.mean(axis=0))
    modes, inverse = model_hessian.scaled_modes(system.moved(positions))
    compliance = modes @ np.linalg.inv(curvature(points, modes, inverse)) @ modes.T
    variances = np.mean([np.square(point.raw_stderr).ravel() for point in averaged], axis=0) / len(averaged)
    offset = compliance @ np.mean([point.forces for point in averaged], axis=0).ravel()
    return Mean(positions, series, offset, (compliance * variances) @ compliance)


def curvature(points: list[Point], modes: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Hessian (m, m) in the scaled modes of the model, where that of the model is the unit matrix.

    Linear regression of the changes of the forces along the walk, with the model as prior: every element has the
    standard deviation `PRIOR` there. Eigenvalues are limited to `RANGE`.
    """
    pairs = list(pairwise(points))
    if not pairs:
        return np.eye(modes.shape[1])
    moves = np.stack([inverse @ (b.result.system.positions - a.result.system.positions).ravel() for a, b in pairs])
    changes = np.stack([modes.T @ (b.forces - a.forces).ravel() for a, b in pairs])
    variances = [np.square(a.raw_stderr) + np.square(b.raw_stderr) for a, b in pairs]
    noise = np.square(modes.T) @ np.mean(variances, axis=0).ravel()
    unit, rows = np.eye(len(noise)), []
    for row, change, variance in zip(unit, changes.T, noise, strict=True):
        weight = max(float(variance), 1e-16) / PRIOR**2
        rows.append(np.linalg.solve(moves.T @ moves + weight * unit, weight * row - moves.T @ change))
    values, vectors = np.linalg.eigh(0.5 * (np.stack(rows) + np.stack(rows).T))
    return np.asarray((vectors * np.clip(values, *RANGE)) @ vectors.T)


def _projected(result: Result) -> Point:
    """Point with forces and errors along the motions of a relaxation."""
    basis = model_hessian.motions(result.system)
    projector = basis @ basis.T
    values, errors = (np.asarray(result.properties[name], dtype=float) for name in ("forces", "forces_stderr"))
    stderr = np.sqrt(np.square(projector) @ np.square(errors).ravel())
    return Point(result, (projector @ values.ravel()).reshape(-1, 3), stderr.reshape(-1, 3))
