"""Mean of the last positions of a relaxation with noisy forces, and its errors: see `fusion.tasks.relax.stochastic`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from fusion.chemistry import constraints
from fusion.tasks.geometry import model_hessian
from fusion.tasks.relax.points import Point

PRIOR: Final[float] = 0.7
"""Standard deviation of the curvature in units of the model's, before the walk tells it."""

RANGE: Final = (0.2, 5.0)
"""Limits of the curvature in units of the model's."""


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


def mean_of(averaged: list[Point], points: list[Point]) -> Mean:
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
