"""Hessian and frequencies from forces that have error bars.

The geometry is displaced by +s and -s along each of the m scaled modes W of a model Hessian
(`fusion.tasks.geometry.model_hessian`), in whose coordinates q (x = W q) the model's curvature is one. The gradients
g = -W^T F give

    H_jk = (g_j(+k) - g_j(-k)) / 2 s_k,     T_kj = (g_j(+k) + g_j(-k) - 2 g_j(0)) / s_k^2,

the Hessian, which is then symmetrised, and the third derivatives with two equal modes. Wide steps make the noise of H
small, and add s^2/6 times the fourth derivative V_k to its diagonal, for which

    V_k = 7/9 sum_j T_kj^2 / H_jj

is exact for independent Morse curves along bonds of one kind. Modes j at least `STIFFER` times as stiff as k have the
factor 3 instead: k is then a bend, along whose straight line bonds stretch, and V_k vanishes along the bent path on
which they do not. It is subtracted, and half of it counts as an error. The step of the model's energy rise E = s^2 / 2
balances both:

    E = (v / 32)^(1/3),     v: variance of g_k,

within `RISES`. The error of an eigenvalue is that of first-order perturbation theory: with the mode u in
the coordinates q, dlambda = u^T dH u. The reference is off the minimum by a displacement of second moment
C = <dq dq^T>, which changes lambda by sum_kj u_k^2 T_kj dq_j. Noise of different coordinates and calculations is taken
as independent, as that of quantum Monte Carlo nearly is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from fusion.chemistry import constraints
from fusion.chemistry.system import System
from fusion.methods.protocol import Method
from fusion.tasks.geometry import model_hessian
from fusion.tasks.geometry.normal_modes import NormalModes, wavenumbers
from fusion.tasks.relax.averaged import RANGE
from fusion.tasks.relax.points import NOISE, Point, visited

RISES: Final = (1e-5, 4e-3)
"""Limits of the energy by which the model rises along a step, hartree."""

STIFFER: Final = 2.0
"""Ratio of the model's curvatures from which on one mode is a stretch and the other a bend."""

_MORSE, _BENT = 7.0 / 9.0, 3.0
"""V_k H_jj / T_kj^2 for a Morse curve, and for a straight line beside a bent path."""

_LARGEST: Final = 0.5
"""Largest share of a curvature that is taken off as anharmonic."""


@dataclass(frozen=True)
class Differences:
    """Forces at a reference and at both ends of a step along each of m scaled modes.

    `modes` (3A, m) and `inverse` (m, 3A): displacements W and their pseudoinverse; `steps` (m,): s.
    """

    reference: Point
    plus: list[Point]
    minus: list[Point]
    modes: np.ndarray
    inverse: np.ndarray
    steps: np.ndarray

    @property
    def points(self) -> list[Point]:
        """All points but the reference."""
        return [*self.plus, *self.minus]

    @cached_property
    def _gradients(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """g(0) (m,), g(+k) and g(-k), row k (m, m)."""
        size = self.modes.shape[0]
        reference, plus, minus = (
            -np.reshape([point.forces for point in points], (len(points), size)) @ self.modes
            for points in ([self.reference], self.plus, self.minus)
        )
        return reference[0], plus, minus

    @cached_property
    def cubic(self) -> np.ndarray:
        """T (m, m): derivatives by twice mode k and once mode j."""
        reference, plus, minus = self._gradients
        return np.asarray((plus + minus - 2.0 * reference) / np.square(self.steps)[:, None])

    @cached_property
    def noise(self) -> np.ndarray:
        """(m, 3A): variance of (F(+k) - F(-k)) / 2 s_k by component of the forces."""
        sums = [
            np.square(plus.raw_stderr).ravel() + np.square(minus.raw_stderr).ravel()
            for plus, minus in zip(self.plus, self.minus, strict=True)
        ]
        return np.reshape(sums, (len(sums), self.modes.shape[0])) / (4.0 * np.square(self.steps)[:, None])

    @cached_property
    def _raw(self) -> np.ndarray:
        """H (m, m) with the anharmonic share of the steps."""
        _, plus, minus = self._gradients
        hessian = (plus - minus) / (2.0 * self.steps[:, None])
        return np.asarray(0.5 * (hessian + hessian.T))

    @cached_property
    def anharmonic(self) -> np.ndarray:
        """(m,): share of the steps in the diagonal of the Hessian, s^2/6 V_k."""
        curvature = np.diag(self._raw)
        # T has the noise of both displaced points and twice that of the reference.
        reference = np.square(self.reference.raw_stderr).ravel()
        displaced = 4.0 * np.square(self.steps)[:, None] * self.noise
        variance = (displaced + 4.0 * reference) @ np.square(self.modes) / self.steps[:, None] ** 4
        stiffness = 1.0 / np.square(self.modes).sum(axis=0)
        bent = stiffness[None, :] > STIFFER * stiffness[:, None]
        factors = np.where(bent, _BENT, _MORSE) / np.maximum(curvature, RANGE[0])
        fourth = (factors * (np.square(self.cubic) - variance)).sum(axis=1)
        return np.clip(fourth * np.square(self.steps) / 6.0, 0.0, _LARGEST * np.maximum(curvature, 0.0))

    @cached_property
    def hessian_of_modes(self) -> np.ndarray:
        """H (m, m), without the anharmonic share of the steps."""
        return self._raw - np.diag(self.anharmonic)

    @property
    def hessian(self) -> np.ndarray:
        """Hessian (3A, 3A), hartree/bohr^2, without translations and rotations."""
        return np.asarray(self.inverse.T @ self.hessian_of_modes @ self.inverse)

    @cached_property
    def offset(self) -> np.ndarray:
        """C (3A, 3A), bohr^2: second moment of the displacement from the reference to the minimum by its forces."""
        values, vectors = np.linalg.eigh(self.hessian_of_modes)
        compliance = self.modes @ (vectors / np.maximum(np.abs(values), RANGE[0])) @ vectors.T @ self.modes.T
        move = compliance @ self.reference.forces.ravel()
        variances = np.square(self.reference.raw_stderr).ravel()
        return np.asarray(np.outer(move, move) + (compliance * variances) @ compliance)

    def variance(self, modes: np.ndarray, weights: np.ndarray, offset: np.ndarray) -> float:
        """Variance of sum_n w_n lambda_n, lambda_n the curvature along the displacement n of `modes` (n, 3A).

        `weights` (n,); `offset` (3A, 3A): C.
        """
        coordinates = modes @ self.inverse.T
        slopes = np.einsum("n,nk,ni->ki", weights, coordinates, coordinates @ self.modes.T)
        squares = weights @ np.square(coordinates)
        shift = squares @ self.cubic @ self.inverse
        by_noise = float((np.square(slopes) * self.noise).sum())
        by_steps = float(np.square(0.5 * squares * self.anharmonic).sum())
        return by_noise + by_steps + float(shift @ offset @ shift)


@dataclass(frozen=True)
class Errors:
    """Standard errors of functions of the frequencies of `modes`, with C (3A, 3A) of the reference in `offset`."""

    found: Differences
    modes: NormalModes
    offset: np.ndarray

    @property
    def _displacements(self) -> np.ndarray:
        return self.modes.displacements.reshape(len(self.modes.frequencies), self.found.modes.shape[0])

    @cached_property
    def _constants(self) -> np.ndarray:
        """(n,) standard errors of the force constants, hartree/bohr^2."""
        unit = np.eye(len(self.modes.frequencies))
        return np.array([self.found.variance(self._displacements, row, self.offset) for row in unit]) ** 0.5

    @property
    def within(self) -> np.ndarray:
        """(n,) cm^-1: a frequency or imaginary frequency below it may have the other sign."""
        return wavenumbers(NOISE * self._constants / self.modes.reduced_masses)

    def stderr(self, weights: np.ndarray) -> float:
        """Standard error of sum_n w_n nu_n, with the weights (n,) of the wavenumbers.

        The slope of the root is limited to that at one standard error, where it would diverge at zero.
        """
        constants = np.maximum(np.abs(self.modes.force_constants), np.maximum(self._constants, 1e-12))
        slopes = 0.5 * wavenumbers(constants / self.modes.reduced_masses) / constants
        return self.found.variance(self._displacements, weights * slopes, self.offset) ** 0.5

    @property
    def frequencies(self) -> np.ndarray:
        """(n,) standard errors of the wavenumbers, cm^-1."""
        return np.array([self.stderr(row) for row in np.eye(len(self.modes.frequencies))])


def number(system: System) -> int:
    """Number 2 m of displaced geometries."""
    return 2 * model_hessian.motions(system).shape[1]


def differences(method: Method, reference: Point, watch: Callable[[int], None]) -> Differences:
    """Calculate the displaced geometries; `watch(done)` is called after each.

    Raises CalculationError if one of them fails.
    """
    system = reference.result.system
    modes, inverse = model_hessian.scaled_modes(system)
    variances = np.square(modes.T) @ np.square(reference.raw_stderr).ravel()
    steps = np.sqrt(2.0 * np.clip(np.cbrt(variances / 32.0), *RISES))
    moves = (modes * steps).T.reshape(-1, *system.positions.shape)
    ends: list[Point] = []
    for move in (*moves, *-moves):
        ends.append(visited(method, system.moved(constraints.placed(system, system.positions + move))))
        watch(len(ends))
    return Differences(reference, ends[: len(moves)], ends[len(moves) :], modes, inverse, steps)
