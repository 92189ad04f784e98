"""Contractions of the potentials of products of basis functions with density orbitals; compiled by numba.

    F_b(r) = sum_d nu_bd(r) E_d(r)

with nu_bd of `integrals`, for `CHUNK` neighbouring points at a time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fusion.compilation import INNER, njit
from fusion.functionals.local_exchange.integrals import CHUNK, INLINE, OPTIONS, potentials


class Near(NamedTuple):
    """Orbitals and result of one chunk, for one thread."""

    vectors: np.ndarray
    """E (S, n, CHUNK)"""
    result: np.ndarray
    """F (W, S, n, CHUNK)"""


def near(ranges: int, vectors: np.ndarray, dtype: type[np.float64 | np.float32] = np.float64) -> Near:
    """Allocate arrays for one thread, `ranges` range separations and vectors (S, n, G)."""
    shape = (*vectors.shape[:2], CHUNK)
    return Near(np.empty(shape, dtype), np.empty((ranges, *shape), dtype))


@njit(**INLINE)
def contract_pair(pair: int, shells: Any, values: Any, w: int, first: int, near: Any) -> None:
    """Add F_b += nu_bd E_d and F_d += nu_bd E_b for one pair of shells, with nu in values[w, first ...]."""
    begin_b, begin_d = shells[pair, 0], shells[pair, 2]
    end = begin_d + shells[pair, 3]
    vectors, result = near.vectors, near.result
    for s in range(vectors.shape[0]):
        row = first
        for b in range(begin_b, begin_b + shells[pair, 1]):
            d = begin_d
            while begin_b != begin_d and d + 3 <= end:  # p shells: F_b is fetched once for three
                for g in range(CHUNK):
                    x, y, z, e = values[w, row, g], values[w, row + 1, g], values[w, row + 2, g], vectors[s, b, g]
                    result[w, s, b, g] += x * vectors[s, d, g] + y * vectors[s, d + 1, g] + z * vectors[s, d + 2, g]
                    result[w, s, d, g] += x * e
                    result[w, s, d + 1, g] += y * e
                    result[w, s, d + 2, g] += z * e
                d, row = d + 3, row + 3
            while d < end:
                for g in range(CHUNK):
                    result[w, s, b, g] += values[w, row, g] * vectors[s, d, g]
                if begin_b != begin_d:
                    for g in range(CHUNK):
                        result[w, s, d, g] += values[w, row, g] * vectors[s, b, g]
                d, row = d + 1, row + 1


@njit(**OPTIONS, **INNER)
def enter(start: int, vectors: np.ndarray, near: Any) -> None:
    """Copy E of one chunk into contiguous memory, and set F to zero."""
    real = near.vectors.dtype.type
    for s in range(vectors.shape[0]):
        for b in range(vectors.shape[1]):
            row = vectors[s, b, start : start + CHUNK]
            for g in range(CHUNK):
                near.vectors[s, b, g] = real(row[g])
            for w in range(near.result.shape[0]):
                for g in range(CHUNK):
                    near.result[w, s, b, g] = real(0.0)


@njit(**OPTIONS, **INNER)
def leave(start: int, near: Any, result: np.ndarray) -> None:
    """Copy F of one chunk to its place among all points."""
    for w in range(near.result.shape[0]):
        for s in range(near.result.shape[1]):
            for b in range(near.result.shape[2]):
                row = result[w, s, b, start : start + CHUNK]
                for g in range(CHUNK):
                    row[g] = near.result[w, s, b, g]


@njit(**OPTIONS)
def contract_direct(
    first: int,
    last: int,
    points: np.ndarray,
    omegas: np.ndarray,
    pairs: Any,
    lookup: Any,
    work: Any,
    near: Any,
    importance: np.ndarray,
    threshold: float,
    vectors: np.ndarray,
    result: np.ndarray,
) -> None:
    """Compute result (W, S, n, G) = nu E for `vectors` E (S, n, G), with nu at points (3, G) computed pair by pair.

    Pairs are left out where bound x max_g importance_g max(|E_b|, |E_d|) is below `threshold`.
    """
    sizes = np.empty(vectors.shape[1])
    for k in range(first, last):
        start = k * CHUNK
        enter(start, vectors, near)
        for b in range(len(sizes)):
            largest = 0.0
            for s in range(vectors.shape[0]):
                for g in range(start, start + CHUNK):
                    largest = max(largest, importance[g] * abs(vectors[s, b, g]))
            sizes[b] = largest
        for pair in range(len(pairs.shells)):
            begin_b, begin_d = pairs.shells[pair, 0], pairs.shells[pair, 2]
            largest = 0.0
            for b in range(begin_b, begin_b + pairs.shells[pair, 1]):
                largest = max(largest, sizes[b])
            for d in range(begin_d, begin_d + pairs.shells[pair, 3]):
                largest = max(largest, sizes[d])
            if pairs.bounds[pair] * largest >= threshold:
                potentials(pair, points, start, omegas, pairs, lookup, work)
                for w in range(len(omegas)):
                    contract_pair(pair, pairs.shells, work.values, w, 0, near)
        leave(start, near, result)
