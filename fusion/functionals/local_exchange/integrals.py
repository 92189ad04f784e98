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
_END_SINGLE: Final = 24.0
"""The same for single precision."""
_STEPS: Final = 16
"""Tabulated arguments per unit; six terms of Taylor's series between them have a relative error of 1e-12."""
_TERMS: Final = 12
"""Terms of one Taylor's series for a whole chunk of points, in single precision: 1e-7 within `_REACH` of its origin."""
_REACH: Final = 1.6
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
    series: np.ndarray
    """(orders, arguments, _TERMS): F_(L+k) / k!."""
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
    functions = [_boys_series(n, arguments) for n in range(order + _TERMS)]
    series = np.empty((order + 1, len(arguments), _TERMS))
    for top in range(order + 1):
        for k in range(_TERMS):
            series[top, :, k] = functions[top + k] / math.factorial(k)
    boys = np.zeros((order + 1, len(arguments), 8))
    boys[:, :, :6], boys[:, :, 6] = series[:, :, :6], np.exp(-arguments)
    powers = hermite_powers(order)
    place = {tuple(power): index for index, power in enumerate(powers.tolist())}
    steps = np.zeros((len(powers), 4), dtype=np.int64)
    for index, power in enumerate(powers.tolist()[1:], 1):
        # Along an axis with power 1 the second term is zero.
        axis = min((x for x in range(3) if power[x]), key=lambda x: (power[x] != 1, power[x]))
        lower, lowest = list(power), list(power)
        lower[axis], lowest[axis] = power[axis] - 1, power[axis] - 2
        steps[index] = axis, place[tuple(lower)], lower[axis], place.get(tuple(lowest), 0)
    return Tables(
        boys.astype(dtype), series.astype(dtype), steps, np.array([math.comb(n + 3, 3) for n in range(order + 1)])
    )


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
def boys_functions(order: int, p: float, omega: float, lookup: Any, axes: np.ndarray, boys: np.ndarray) -> None:
    """Compute sqrt(theta) (-2 alpha)^n F_n(alpha r^2) for n up to `order`, alpha = p theta."""
    real = axes.dtype.type
    theta = 1.0 if omega == 0.0 else omega**2 / (omega**2 + p)
    alpha, scale, end = real(p * theta), real(math.sqrt(theta)), real(_END)
    if real is np.float32:
        end = real(_END_SINGLE)
    nearest = furthest = axes[3, 0]
    for g in range(CHUNK):
        nearest, furthest = min(nearest, axes[3, g]), max(furthest, axes[3, g])
    if alpha * nearest <= end:
        middle = 0.5 * alpha * (nearest + furthest)
        if real is np.float32 and alpha * (furthest - nearest) < real(2.0 * _REACH) and middle < end:
            _expanded(order, alpha, middle, lookup, axes, boys)
        else:
            _tabulated(order, alpha, end, lookup.boys, axes, boys)
        factor = scale
        for n in range(order + 1):
            for g in range(CHUNK):
                boys[n, g] *= factor
            factor *= real(-2.0) * alpha
    far = scale * real(math.sqrt(0.25 * math.pi / (p * theta)))
    if alpha * nearest > end:
        inverse = boys[order + 1]
        for g in range(CHUNK):
            inverse[g] = real(1.0) / axes[3, g]
            boys[0, g] = far * math.sqrt(inverse[g])
        for n in range(1, order + 1):
            for g in range(CHUNK):
                boys[n, g] = boys[n - 1, g] * real(1 - 2 * n) * inverse[g]
    elif alpha * furthest > end:
        for g in range(CHUNK):
            if alpha * axes[3, g] > end:
                value = far / math.sqrt(axes[3, g])
                boys[0, g] = value
                for n in range(1, order + 1):
                    value *= real(1 - 2 * n) / axes[3, g]
                    boys[n, g] = value


@njit(**INLINE)
def _expanded(order: int, alpha: float, middle: float, lookup: Any, axes: np.ndarray, boys: np.ndarray) -> None:
    """Compute F_n(alpha r^2) as `_tabulated` by one Taylor's series for all points, without gathering from tables."""
    real = axes.dtype.type
    i = int(middle * _STEPS + 0.5)
    origin, decay = real(i / _STEPS), lookup.boys[order, i, 6]
    terms, rest = lookup.series[order, i], boys[order + 1]
    for g in range(CHUNK):
        d = origin - alpha * axes[3, g]
        value = terms[11] * d + terms[10]
        value = ((value * d + terms[9]) * d + terms[8]) * d + terms[7]
        value = ((value * d + terms[6]) * d + terms[5]) * d + terms[4]
        value = ((value * d + terms[3]) * d + terms[2]) * d + terms[1]
        boys[order, g] = value * d + terms[0]
    if order > 0:
        for g in range(CHUNK):
            d = origin - alpha * axes[3, g]
            value = (d * real(1.0 / 11.0) + real(1.0)) * d * real(0.1) + real(1.0)
            value = (value * d * real(1.0 / 9.0) + real(1.0)) * d * real(1.0 / 8.0) + real(1.0)
            value = (value * d * real(1.0 / 7.0) + real(1.0)) * d * real(1.0 / 6.0) + real(1.0)
            value = (value * d * real(1.0 / 5.0) + real(1.0)) * d * real(1.0 / 4.0) + real(1.0)
            value = (value * d * real(1.0 / 3.0) + real(1.0)) * d * real(1.0 / 2.0) + real(1.0)
            rest[g] = decay * (value * d + real(1.0))
    _downwards(order, alpha, axes, boys)


@njit(**INLINE)
def _downwards(order: int, alpha: float, axes: np.ndarray, boys: np.ndarray) -> None:
    """Compute the lower orders from F_order and exp(-t), which follows it."""
    real = axes.dtype.type
    for n in range(order - 1, -1, -1):
        factor, share = real(2.0) * alpha, real(1.0) / real(2 * n + 1)
        for g in range(CHUNK):
            boys[n, g] = (factor * axes[3, g] * boys[n + 1, g] + boys[order + 1, g]) * share


@njit(**INLINE)
def _tabulated(order: int, alpha: float, end: float, table: np.ndarray, axes: np.ndarray, boys: np.ndarray) -> None:
    """Compute F_n(alpha r^2): the highest order by Taylor's series, the others by downward recursion."""
    real = axes.dtype.type
    steps, step, half, unit = real(_STEPS), real(1.0 / _STEPS), real(0.5), real(1.0)
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
    _downwards(order, alpha, axes, boys)


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
def _accumulate(pair: int, q: int, size: int, pairs: Any, hermite: Any, values: Any, w: int) -> None:
    """Add coefficients (functions, size) @ hermite[0] (size, CHUNK) to values[w] (functions, CHUNK)."""
    real = values.dtype.type
    terms, coefficients = pairs.terms, pairs.coefficients
    start = pairs.offsets[q]
    row = pairs.rows[pair]
    for f in range(pairs.rows[pair + 1] - row):
        n, end = pairs.ends[row + f], pairs.ends[row + f + 1]
        while n + 4 <= end:
            t, t1, t2, t3 = terms[n], terms[n + 1], terms[n + 2], terms[n + 3]
            c, c1 = real(coefficients[start + t]), real(coefficients[start + t1])
            c2, c3 = real(coefficients[start + t2]), real(coefficients[start + t3])
            for g in range(CHUNK):
                values[w, f, g] += (c * hermite[0, t, g] + c1 * hermite[0, t1, g]) + (
                    c2 * hermite[0, t2, g] + c3 * hermite[0, t3, g]
                )
            n += 4
        while n + 2 <= end:
            t, t1 = terms[n], terms[n + 1]
            c, c1 = real(coefficients[start + t]), real(coefficients[start + t1])
            for g in range(CHUNK):
                values[w, f, g] += c * hermite[0, t, g] + c1 * hermite[0, t1, g]
            n += 2
        if n < end:
            t = terms[n]
            c = real(coefficients[start + t])
            for g in range(CHUNK):
                values[w, f, g] += c * hermite[0, t, g]
        start += size


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
            boys_functions(order, pairs.gaussians[q, 0], omegas[w], lookup, axes, boys)
            if order == 0:
                for f in range(functions):
                    c = real(pairs.coefficients[pairs.offsets[q] + f])
                    for g in range(CHUNK):
                        values[w, f, g] += c * boys[0, g]
            else:
                hermite_functions(order, lookup, axes, boys, hermite)
                _accumulate(pair, q, lookup.counts[order], pairs, hermite, values, w)
