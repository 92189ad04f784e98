"""Potentials of products of basis functions at points of space, and their contractions; compiled by numba.

    nu_bd(r; omega) = int chi_b(r') erf(omega |r - r'|) / |r - r'| chi_d(r') dr'          (omega = 0: 1 / |r - r'|)

Of a Hermite Gaussian it is 2 pi / p sqrt(theta) R_tuv(p theta, P - r), theta = omega^2 / (omega^2 + p) or, for
omega = 0, 1; R by recursion from Boys' functions F_n (Helgaker, Jorgensen and Olsen, Molecular Electronic-Structure
Theory (2000), eqs. 9.9.9-9.9.20). All loops run over `CHUNK` neighbouring points, so that the compiler vectorises them.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from fusion.functionals.shell_pairs import ShellPairs, hermite_powers

CHUNK: Final = 64
"""Points that are worked on at once."""
_END: Final = 40.0
"""Argument from which Boys' functions are sqrt(pi / t^(2n+1)) (2n-1)!! / 2^(n+1) to rounding."""
_STEPS: Final = 16
"""Tabulated arguments per unit; six terms of Taylor's series between them err by 1e-12 of the value."""
_OPTIONS: Final[dict[str, Any]] = {
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz", "arcp", "afn"},
}
_INLINE: Final[dict[str, Any]] = {**_OPTIONS, "inline": "always"}


class Tables(NamedTuple):
    """What does not depend on the molecule, up to an order of the Hermite functions."""

    boys: np.ndarray
    """(orders, arguments, 8): F_(L+k) / k! for k < 6, exp(-t)."""
    steps: np.ndarray
    """(H, 4) of R_h: the axis of the recursion, the function one lower there, its power, the function two lower."""
    counts: np.ndarray
    """(orders,): Hermite functions up to each order."""


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


class Near(NamedTuple):
    """One chunk's orbitals and result, for one thread."""

    vectors: np.ndarray
    """E (S, n, CHUNK)"""
    found: np.ndarray
    """F (W, S, n, CHUNK)"""


@lru_cache(maxsize=8)
def tables(order: int) -> Tables:
    """Tables for Hermite functions up to `order`."""
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
        # Along an axis whose power is 1 the second term is nought.
        axis = min((x for x in range(3) if power[x]), key=lambda x: (power[x] != 1, power[x]))
        one, two = list(power), list(power)
        one[axis], two[axis] = power[axis] - 1, power[axis] - 2
        steps[index] = axis, place[tuple(one)], one[axis], place.get(tuple(two), 0)
    return Tables(boys, steps, np.array([math.comb(n + 3, 3) for n in range(order + 1)]))


def _boys_series(order: int, arguments: np.ndarray) -> np.ndarray:
    """F_n(t) = exp(-t) sum_i (2t)^i / ((2n+1)(2n+3) ... (2n+2i+1)), all terms positive."""
    total, term = np.zeros_like(arguments), np.full_like(arguments, 1.0 / (2 * order + 1))
    for i in range(1, 400):
        total += term
        term = term * 2.0 * arguments / (2 * order + 2 * i + 1)
    return total * np.exp(-arguments)


def workspace(pairs: ShellPairs, ranges: int) -> Workspace:
    """Arrays for one thread and `ranges` range separations."""
    order = int(pairs.shells[:, 4].max())
    return Workspace(
        np.empty((4, CHUNK)),
        np.empty((order + 2, CHUNK)),
        np.empty((order + 1, math.comb(order + 3, 3), CHUNK)),
        np.empty((ranges, int(np.diff(pairs.rows).max()), CHUNK)),
    )


def near(ranges: int, vectors: np.ndarray) -> Near:
    """Arrays for one thread, `ranges` range separations and vectors (S, n, G)."""
    shape = (*vectors.shape[:2], CHUNK)
    return Near(np.empty(shape), np.empty((ranges, *shape)))


@njit(**_INLINE)
def _boys(order: int, alpha: float, scale: float, table: np.ndarray, axes: np.ndarray, boys: np.ndarray) -> None:
    """scale (-2 alpha)^n F_n(alpha r^2) for n up to `order`."""
    nearest = furthest = axes[3, 0]
    for g in range(CHUNK):
        nearest, furthest = min(nearest, axes[3, g]), max(furthest, axes[3, g])
    if alpha * nearest <= _END:
        for g in range(CHUNK):
            t = min(alpha * axes[3, g], _END)
            i = int(t * _STEPS + 0.5)
            d = i * (1.0 / _STEPS) - t
            value = (table[order, i, 5] * d + table[order, i, 4]) * d + table[order, i, 3]
            boys[order, g] = ((value * d + table[order, i, 2]) * d + table[order, i, 1]) * d + table[order, i, 0]
            if order > 0:
                value = ((d * (1.0 / 120.0) + 1.0 / 24.0) * d + 1.0 / 6.0) * d + 0.5
                boys[order + 1, g] = table[order, i, 6] * ((value * d + 1.0) * d + 1.0)
        for n in range(order - 1, -1, -1):
            for g in range(CHUNK):
                boys[n, g] = (2.0 * alpha * axes[3, g] * boys[n + 1, g] + boys[order + 1, g]) * (1.0 / (2 * n + 1))
        factor = scale
        for n in range(order + 1):
            for g in range(CHUNK):
                boys[n, g] *= factor
            factor *= -2.0 * alpha
    far = scale * math.sqrt(0.25 * math.pi / alpha)
    if alpha * nearest > _END:
        for g in range(CHUNK):
            boys[0, g] = far / math.sqrt(axes[3, g])
        for n in range(1, order + 1):
            for g in range(CHUNK):
                boys[n, g] = boys[n - 1, g] * (1.0 - 2.0 * n) / axes[3, g]
    elif alpha * furthest > _END:
        for g in range(CHUNK):
            if alpha * axes[3, g] > _END:
                value = far / math.sqrt(axes[3, g])
                boys[0, g] = value
                for n in range(1, order + 1):
                    value *= (1.0 - 2.0 * n) / axes[3, g]
                    boys[n, g] = value


@njit(**_INLINE)
def _hermite(order: int, steps: np.ndarray, counts: np.ndarray, axes: np.ndarray, boys: Any, hermite: Any) -> None:
    """R_h = R^0_h of all Hermite functions up to `order`, from R^n_0 = (-2 alpha)^n F_n."""
    for n in range(order + 1):
        for g in range(CHUNK):
            hermite[n, 0, g] = boys[n, g]
    for degree in range(1, order + 1):
        for n in range(order - degree + 1):
            for h in range(counts[degree - 1], counts[degree]):
                x, i, power, j = steps[h, 0], steps[h, 1], float(steps[h, 2]), steps[h, 3]
                if power == 0.0:
                    for g in range(CHUNK):
                        hermite[n, h, g] = axes[x, g] * hermite[n + 1, i, g]
                else:
                    for g in range(CHUNK):
                        hermite[n, h, g] = axes[x, g] * hermite[n + 1, i, g] + power * hermite[n + 1, j, g]


@njit(**_INLINE)
def _accumulate(functions: int, size: int, coefficients: Any, base: int, hermite: Any, values: Any, w: int) -> None:
    """values[w] (functions, CHUNK) += coefficients (functions, size) @ hermite[0] (size, CHUNK)."""
    for f in range(functions):
        start = base + f * size
        t = 0
        while t + 5 <= size:  # orders 2 and 4 have 10 and 35 functions
            c = coefficients[start + t]
            c1, c2 = coefficients[start + t + 1], coefficients[start + t + 2]
            c3, c4 = coefficients[start + t + 3], coefficients[start + t + 4]
            for g in range(CHUNK):
                values[w, f, g] += (
                    (c * hermite[0, t, g] + c1 * hermite[0, t + 1, g])
                    + (c2 * hermite[0, t + 2, g] + c3 * hermite[0, t + 3, g])
                    + c4 * hermite[0, t + 4, g]
                )
            t += 5
        while t < size:
            c = coefficients[start + t]
            for g in range(CHUNK):
                values[w, f, g] += c * hermite[0, t, g]
            t += 1


@njit(**_OPTIONS)
def _potentials(
    pair: int, points: np.ndarray, start: int, omegas: np.ndarray, pairs: Any, known: Any, work: Any
) -> None:
    """work.values (W, functions, CHUNK): nu of one pair of shells at CHUNK points (3, G) from `start`."""
    order = pairs.shells[pair, 4]
    functions = pairs.rows[pair + 1] - pairs.rows[pair]
    axes, boys, hermite, values = work.axes, work.boys, work.hermite, work.values
    for w in range(len(omegas)):
        for f in range(functions):
            for g in range(CHUNK):
                values[w, f, g] = 0.0
    for q in range(pairs.primitives[pair], pairs.primitives[pair + 1]):
        p = pairs.gaussians[q, 0]
        for g in range(CHUNK):
            x = pairs.gaussians[q, 1] - points[0, start + g]
            y = pairs.gaussians[q, 2] - points[1, start + g]
            z = pairs.gaussians[q, 3] - points[2, start + g]
            axes[0, g], axes[1, g], axes[2, g] = x, y, z
            axes[3, g] = x * x + y * y + z * z
        for w in range(len(omegas)):
            theta = 1.0 if omegas[w] == 0.0 else omegas[w] ** 2 / (omegas[w] ** 2 + p)
            _boys(order, p * theta, math.sqrt(theta), known.boys, axes, boys)
            if order == 0:
                for f in range(functions):
                    c = pairs.coefficients[pairs.offsets[q] + f]
                    for g in range(CHUNK):
                        values[w, f, g] += c * boys[0, g]
            else:
                _hermite(order, known.steps, known.counts, axes, boys, hermite)
                _accumulate(functions, known.counts[order], pairs.coefficients, pairs.offsets[q], hermite, values, w)


@njit(**_OPTIONS)
def fill(
    first: int, last: int, points: np.ndarray, omegas: np.ndarray, pairs: Any, known: Any, work: Any, found: np.ndarray
) -> None:
    """nu of all pairs of functions, found (chunks, W, rows, CHUNK), at chunks `first` to `last` of points (3, G)."""
    for k in range(first, last):
        for pair in range(len(pairs.shells)):
            _potentials(pair, points, k * CHUNK, omegas, pairs, known, work)
            row = pairs.rows[pair]
            for w in range(len(omegas)):
                for f in range(pairs.rows[pair + 1] - row):
                    for g in range(CHUNK):
                        found[k, w, row + f, g] = work.values[w, f, g]


@njit(**_INLINE)
def _contract(pair: int, shells: Any, values: Any, w: int, first: int, near: Any) -> None:
    """F_b += nu_bd E_d and F_d += nu_bd E_b of one pair of shells, nu in values[w, first ...]."""
    one, two = shells[pair, 0], shells[pair, 2]
    end = two + shells[pair, 3]
    vectors, found = near.vectors, near.found
    for s in range(vectors.shape[0]):
        row = first
        for b in range(one, one + shells[pair, 1]):
            d = two
            while one != two and d + 3 <= end:  # p shells: F_b is fetched once for three
                for g in range(CHUNK):
                    x, y, z, e = values[w, row, g], values[w, row + 1, g], values[w, row + 2, g], vectors[s, b, g]
                    found[w, s, b, g] += x * vectors[s, d, g] + y * vectors[s, d + 1, g] + z * vectors[s, d + 2, g]
                    found[w, s, d, g] += x * e
                    found[w, s, d + 1, g] += y * e
                    found[w, s, d + 2, g] += z * e
                d, row = d + 3, row + 3
            while d < end:
                for g in range(CHUNK):
                    found[w, s, b, g] += values[w, row, g] * vectors[s, d, g]
                if one != two:
                    for g in range(CHUNK):
                        found[w, s, d, g] += values[w, row, g] * vectors[s, b, g]
                d, row = d + 1, row + 1


@njit(**_OPTIONS)
def _enter(start: int, vectors: np.ndarray, near: Any) -> None:
    """E of one chunk to where its numbers are close to each other, and F nought."""
    for s in range(vectors.shape[0]):
        for b in range(vectors.shape[1]):
            for g in range(CHUNK):
                near.vectors[s, b, g] = vectors[s, b, start + g]
                for w in range(near.found.shape[0]):
                    near.found[w, s, b, g] = 0.0


@njit(**_OPTIONS)
def _leave(start: int, near: Any, found: np.ndarray) -> None:
    for w in range(near.found.shape[0]):
        for s in range(near.found.shape[1]):
            for b in range(near.found.shape[2]):
                for g in range(CHUNK):
                    found[w, s, b, start + g] = near.found[w, s, b, g]


@njit(**_OPTIONS)
def contract_stored(
    first: int, last: int, pairs: Any, stored: Any, near: Any, vectors: np.ndarray, found: np.ndarray
) -> None:
    """found (W, S, n, G) = nu E of `vectors` E (S, n, G), nu as `fill` leaves it."""
    for k in range(first, last):
        _enter(k * CHUNK, vectors, near)
        for w in range(found.shape[0]):
            for pair in range(len(pairs.shells)):
                _contract(pair, pairs.shells, stored[k], w, pairs.rows[pair], near)
        _leave(k * CHUNK, near, found)


@njit(**_OPTIONS)
def contract_direct(
    first: int,
    last: int,
    points: np.ndarray,
    omegas: np.ndarray,
    pairs: Any,
    known: Any,
    work: Any,
    near: Any,
    importance: np.ndarray,
    threshold: float,
    vectors: np.ndarray,
    found: np.ndarray,
) -> None:
    """The same with nu at points (3, G) made and used up pair by pair.

    Pairs are left out where bound x max_g importance_g max(|E_b|, |E_d|) is below `threshold`.
    """
    sizes = np.empty(vectors.shape[1])
    for k in range(first, last):
        start = k * CHUNK
        _enter(start, vectors, near)
        for b in range(len(sizes)):
            largest = 0.0
            for s in range(vectors.shape[0]):
                for g in range(start, start + CHUNK):
                    largest = max(largest, importance[g] * abs(vectors[s, b, g]))
            sizes[b] = largest
        for pair in range(len(pairs.shells)):
            one, two = pairs.shells[pair, 0], pairs.shells[pair, 2]
            largest = 0.0
            for b in range(one, one + pairs.shells[pair, 1]):
                largest = max(largest, sizes[b])
            for d in range(two, two + pairs.shells[pair, 3]):
                largest = max(largest, sizes[d])
            if pairs.bounds[pair] * largest >= threshold:
                _potentials(pair, points, start, omegas, pairs, known, work)
                for w in range(len(omegas)):
                    _contract(pair, pairs.shells, work.values, w, 0, near)
        _leave(start, near, found)
