"""Potentials of products of basis functions at points in space; compiled by numba.

    nu_bd(r; omega) = int chi_b(r') erf(omega |r - r'|) / |r - r'| chi_d(r') dr'          (omega = 0: 1 / |r - r'|)

For a Hermite Gaussian, nu is 2 pi / p sqrt(theta) R_tuv(p theta, P - r), theta = omega^2 / (omega^2 + p), or 1 for
omega = 0. R follows by recursion from Boys' functions F_n (Helgaker, Jorgensen and Olsen, Molecular
Electronic-Structure Theory (2000), eqs. 9.9.9-9.9.20). All loops run over `CHUNK` neighbouring points, so that the
compiler vectorises them. The precision, double or single, is that of the workspace and the tables.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np

from fusion.compilation import INNER, njit
from fusion.functionals.local_exchange.shell_pairs import ShellPairs, hermite_powers

CHUNK: Final = 64
"""Number of points processed at once."""
_END: Final = 40.0
"""Argument above which Boys' functions equal sqrt(pi / t^(2n+1)) (2n-1)!! / 2^(n+1) to rounding."""
_STEPS: Final = 16
"""Tabulated arguments per unit; six terms of Taylor's series between them have a relative error of 1e-12."""
OPTIONS: Final[dict[str, Any]] = {
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz", "arcp", "afn"},
}
INLINE: Final[dict[str, Any]] = {**OPTIONS, "inline": "always"}


class Tables(NamedTuple):
    """Tables that do not depend on the molecule, up to an order of the Hermite functions."""

    boys: np.ndarray
    """(orders, arguments, 8): F_(L+k) / k! for k < 6, exp(-t)."""
    steps: np.ndarray
    """(H, 4) for R_h: axis of the recursion, function with one power less, that power, function with two less."""
    counts: np.ndarray
    """(orders,): number of Hermite functions up to each order."""


class Workspace(NamedTuple):
    """Arrays of one thread."""

    axes: np.ndarray
    """(4, CHUNK): P - r, and its square."""
    boys: np.ndarray
    """(L + 2, CHUNK)"""
    hermite: np.ndarray
    """(L + 1, H, CHUNK)"""
    values: np.ndarray
    """(W, functions, CHUNK): nu of one pair of shells."""


@lru_cache(maxsize=16)
def tables(order: int, dtype: Any = np.float64) -> Tables:
    """Build the tables for Hermite functions up to `order`."""
    arguments = np.arange(int(_END * _STEPS) + 2) / _STEPS
    boys = np.zeros((order + 1, len(arguments), 8))
    for top in range(order + 1):
        for k in range(6):
            boys[top, :, k] = _boys_series(top + k, arguments) / math.factorial(k)
        boys[top, :, 6] = np.exp(-arguments)
    powers = hermite_powers(order)
    place = {tuple(power): index for index, power in enumerate(powers.tolist())}
    steps = np.zeros((len(powers), 4), dtype=np.int64)
    for index, power in enumerate(powers.tolist()[1:], 1):
        # Along an axis with power 1 the second term is zero.
        axis = min((x for x in range(3) if power[x]), key=lambda x: (power[x] != 1, power[x]))
        lower, lowest = list(power), list(power)
        lower[axis], lowest[axis] = power[axis] - 1, power[axis] - 2
        steps[index] = axis, place[tuple(lower)], lower[axis], place.get(tuple(lowest), 0)
    return Tables(boys.astype(dtype), steps, np.array([math.comb(n + 3, 3) for n in range(order + 1)]))


def _boys_series(order: int, arguments: np.ndarray) -> np.ndarray:
    """F_n(t) = exp(-t) sum_i (2t)^i / ((2n+1)(2n+3) ... (2n+2i+1)), all terms positive."""
    total, term = np.zeros_like(arguments), np.full_like(arguments, 1.0 / (2 * order + 1))
    for i in range(1, 400):
        total += term
        term = term * 2.0 * arguments / (2 * order + 2 * i + 1)
    return total * np.exp(-arguments)


def workspace(pairs: ShellPairs, ranges: int, dtype: type[np.float64 | np.float32] = np.float64) -> Workspace:
    """Allocate arrays for one thread and `ranges` range separations."""
    order = int(pairs.shells[:, 4].max())
    return Workspace(
        np.empty((4, CHUNK), dtype),
        np.empty((order + 2, CHUNK), dtype),
        np.empty((order + 1, math.comb(order + 3, 3), CHUNK), dtype),
        np.empty((ranges, int(np.diff(pairs.rows).max()), CHUNK), dtype),
    )


@njit(**INLINE)
def displacements(gaussians: Any, q: int, points: np.ndarray, start: int, axes: np.ndarray) -> None:
    """Compute axes (4, CHUNK): P - r of one pair of primitives, and its square."""
    real = axes.dtype.type
    for g in range(CHUNK):
        x = real(gaussians[q, 1] - points[0, start + g])
        y = real(gaussians[q, 2] - points[1, start + g])
        z = real(gaussians[q, 3] - points[2, start + g])
        axes[0, g], axes[1, g], axes[2, g] = x, y, z
        axes[3, g] = x * x + y * y + z * z


@njit(**INLINE)
def boys_functions(order: int, p: float, omega: float, table: np.ndarray, axes: np.ndarray, boys: np.ndarray) -> None:
    """Compute sqrt(theta) (-2 alpha)^n F_n(alpha r^2) for n up to `order`, alpha = p theta."""
    real = axes.dtype.type
    theta = 1.0 if omega == 0.0 else omega**2 / (omega**2 + p)
    alpha, scale, end = real(p * theta), real(math.sqrt(theta)), real(_END)
    nearest = furthest = axes[3, 0]
    for g in range(CHUNK):
        nearest, furthest = min(nearest, axes[3, g]), max(furthest, axes[3, g])
    if alpha * nearest <= end:
        _tabulated(order, alpha, table, axes, boys)
        factor = scale
        for n in range(order + 1):
            for g in range(CHUNK):
                boys[n, g] *= factor
            factor *= real(-2.0) * alpha
    far = scale * real(math.sqrt(0.25 * math.pi / (p * theta)))
    if alpha * nearest > end:
        for g in range(CHUNK):
            boys[0, g] = far / math.sqrt(axes[3, g])
        for n in range(1, order + 1):
            for g in range(CHUNK):
                boys[n, g] = boys[n - 1, g] * real(1 - 2 * n) / axes[3, g]
    elif alpha * furthest > end:
        for g in range(CHUNK):
            if alpha * axes[3, g] > end:
                value = far / math.sqrt(axes[3, g])
                boys[0, g] = value
                for n in range(1, order + 1):
                    value *= real(1 - 2 * n) / axes[3, g]
                    boys[n, g] = value


@njit(**INLINE)
def _tabulated(order: int, alpha: float, table: np.ndarray, axes: np.ndarray, boys: np.ndarray) -> None:
    """Compute F_n(alpha r^2): the highest order by Taylor's series, the others by downward recursion."""
    real = axes.dtype.type
    steps, step, end, half, unit = real(_STEPS), real(1.0 / _STEPS), real(_END), real(0.5), real(1.0)
    for g in range(CHUNK):
        t = min(alpha * axes[3, g], end)
        i = np.uint32(t * steps + half)
        d = real(i) * step - t
        value = table[order, i, 3]
        if real is not np.float32:
            value = (table[order, i, 5] * d + table[order, i, 4]) * d + value
        boys[order, g] = ((value * d + table[order, i, 2]) * d + table[order, i, 1]) * d + table[order, i, 0]
        if order > 0:
            value = ((d * real(1.0 / 120.0) + real(1.0 / 24.0)) * d + real(1.0 / 6.0)) * d + half
            boys[order + 1, g] = table[order, i, 6] * ((value * d + unit) * d + unit)
    for n in range(order - 1, -1, -1):
        factor, share = real(2.0) * alpha, unit / real(2 * n + 1)
        for g in range(CHUNK):
            boys[n, g] = (factor * axes[3, g] * boys[n + 1, g] + boys[order + 1, g]) * share


@njit(**INLINE)
def hermite_functions(order: int, lookup: Any, axes: np.ndarray, boys: Any, hermite: Any) -> None:
    """Compute R_h = R^0_h of all Hermite functions up to `order` from R^n_0 = (-2 alpha)^n F_n."""
    real, steps, counts = axes.dtype.type, lookup.steps, lookup.counts
    for n in range(order + 1):
        for g in range(CHUNK):
            hermite[n, 0, g] = boys[n, g]
    for degree in range(1, order + 1):
        for n in range(order - degree + 1):
            for h in range(counts[degree - 1], counts[degree]):
                x, i, power, j = steps[h, 0], steps[h, 1], real(steps[h, 2]), steps[h, 3]
                if power == real(0.0):
                    for g in range(CHUNK):
                        hermite[n, h, g] = axes[x, g] * hermite[n + 1, i, g]
                else:
                    for g in range(CHUNK):
                        hermite[n, h, g] = axes[x, g] * hermite[n + 1, i, g] + power * hermite[n + 1, j, g]


@njit(**INLINE)
def _accumulate(functions: int, size: int, coefficients: Any, base: int, hermite: Any, values: Any, w: int) -> None:
    """Add coefficients (functions, size) @ hermite[0] (size, CHUNK) to values[w] (functions, CHUNK)."""
    real = values.dtype.type
    for f in range(functions):
        start = base + f * size
        t = 0
        while t + 5 <= size:  # orders 2 and 4 have 10 and 35 functions
            c, c1, c2 = (
                real(coefficients[start + t]),
                real(coefficients[start + t + 1]),
                real(coefficients[start + t + 2]),
            )
            c3, c4 = real(coefficients[start + t + 3]), real(coefficients[start + t + 4])
            for g in range(CHUNK):
                values[w, f, g] += (
                    (c * hermite[0, t, g] + c1 * hermite[0, t + 1, g])
                    + (c2 * hermite[0, t + 2, g] + c3 * hermite[0, t + 3, g])
                    + c4 * hermite[0, t + 4, g]
                )
            t += 5
        while t < size:
            c = real(coefficients[start + t])
            for g in range(CHUNK):
                values[w, f, g] += c * hermite[0, t, g]
            t += 1


@njit(**OPTIONS, **INNER)
def potentials(
    pair: int, points: np.ndarray, start: int, omegas: np.ndarray, pairs: Any, lookup: Any, work: Any
) -> None:
    """Compute work.values (W, functions, CHUNK): nu of one pair of shells at CHUNK points (3, G) from `start`."""
    order = pairs.shells[pair, 4]
    functions = pairs.rows[pair + 1] - pairs.rows[pair]
    axes, boys, hermite, values = work.axes, work.boys, work.hermite, work.values
    real = values.dtype.type
    for w in range(len(omegas)):
        for f in range(functions):
            for g in range(CHUNK):
                values[w, f, g] = real(0.0)
    for q in range(pairs.primitives[pair], pairs.primitives[pair + 1]):
        displacements(pairs.gaussians, q, points, start, axes)
        for w in range(len(omegas)):
            boys_functions(order, pairs.gaussians[q, 0], omegas[w], lookup.boys, axes, boys)
            if order == 0:
                for f in range(functions):
                    c = real(pairs.coefficients[pairs.offsets[q] + f])
                    for g in range(CHUNK):
                        values[w, f, g] += c * boys[0, g]
            else:
                hermite_functions(order, lookup, axes, boys, hermite)
                _accumulate(functions, lookup.counts[order], pairs.coefficients, pairs.offsets[q], hermite, values, w)
