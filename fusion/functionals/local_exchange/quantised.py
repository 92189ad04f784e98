"""Potentials of products of basis functions stored between cycles in the precision they need; compiled by numba.

nu_bd of one pair of shells at `CHUNK` neighbouring points contributes w |E_b nu E_d| to the energy, w the weight of a
point, and w max |chi| |nu E| to the potential matrix. It is left out if both are below `ENERGY` and `POTENTIAL`.
Otherwise it is stored as integers of one or two bytes times a step that keeps the error below them, or in single
precision. Allocating fresh memory would cost more time than computing the integrals.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from fusion.compilation import INNER, njit
from fusion.functionals.local_exchange.contractions import contract_pair, enter, leave
from fusion.functionals.local_exchange.integrals import CHUNK, INLINE, OPTIONS, potentials

ENERGY: Final = 1e-11
"""Hartree, per pair and point. Neglected terms have one sign: 7e-7 Ha for benzene in def2-SVP, level 3."""
POTENTIAL: Final = 1e-9
"""Hartree, per pair and point, in a matrix element."""
GROWTH: Final = 4.0
"""Factor by which E may grow before the integrals are rounded again."""
_SINGLE: Final = 1e6
"""Potentials are computed in single precision if an error of their bound over this factor is negligible."""
_HIGHEST: Final = 1e30
"""Largest power of an exponent in single precision."""


class Kept(NamedTuple):
    """Stored integrals of K chunks of points, for W range separations and N pairs of shells."""

    widths: np.ndarray
    """(K, W, N): bytes per number, 0 if left out."""
    steps: np.ndarray
    """(K, W, N): value of one unit of the integers."""
    starts: np.ndarray
    """(K,): first byte of each chunk: pair by pair, range by range, function by function, point by point."""
    bytes_1: np.ndarray
    """The numbers as integers of one byte; `bytes_2` and `bytes_4` are views of the same memory."""
    bytes_2: np.ndarray
    bytes_4: np.ndarray
    sizes: np.ndarray
    """(K, 2, n): magnitude of E for which the integrals were rounded, see `measure`."""


@njit(**OPTIONS)
def measure(vectors: np.ndarray, weights: np.ndarray, largest: np.ndarray, sizes: np.ndarray) -> None:
    """Compute sizes (K, 2, n): the largest sqrt(|w|) |E| and |w| max |chi| |E| in each chunk, for E (S, n, G)."""
    peaks = np.empty((2, CHUNK))
    for k in range(sizes.shape[0]):
        start = k * CHUNK
        weight = np.abs(weights[start : start + CHUNK])
        potential = weight * largest[start : start + CHUNK]
        for b in range(sizes.shape[2]):
            peaks[:] = 0.0
            for s in range(vectors.shape[0]):
                row = vectors[s, b, start : start + CHUNK]
                for g in range(len(row)):
                    value = abs(row[g])
                    peaks[0, g] = max(peaks[0, g], weight[g] * value * value)
                    peaks[1, g] = max(peaks[1, g], potential[g] * value)
            sizes[k, 0, b] = np.sqrt(peaks[0].max())
            sizes[k, 1, b] = peaks[1].max()


@njit(**OPTIONS)
def outgrown(sizes: np.ndarray, before: np.ndarray) -> bool:
    """True if E has grown too much since the integrals were rounded."""
    for k in range(sizes.shape[0]):
        for b in range(sizes.shape[2]):
            if sizes[k, 0, b] > GROWTH * (before[k, 0, b] + ENERGY):
                return True
            if sizes[k, 1, b] > GROWTH * (before[k, 1, b] + 0.1 * POTENTIAL):
                return True
    return False


@njit(**INLINE)
def _urgency(pair: int, shells: Any, sizes: Any, k: int) -> float:
    """Factor that multiplies nu of a pair, in units of the negligible contribution."""
    largest_b, largest_d = 0.0, 0.0
    highest = 0.0
    for b in range(shells[pair, 0], shells[pair, 0] + shells[pair, 1]):
        largest_b, highest = max(largest_b, sizes[k, 0, b]), max(highest, sizes[k, 1, b])
    for d in range(shells[pair, 2], shells[pair, 2] + shells[pair, 3]):
        largest_d, highest = max(largest_d, sizes[k, 0, d]), max(highest, sizes[k, 1, d])
    return max(largest_b * largest_d / ENERGY, highest / POTENTIAL)


@njit(**INLINE)
def _is_steep(pair: int, pairs: Any) -> bool:
    """True if powers of exponents exceed the range of single precision."""
    for q in range(pairs.primitives[pair], pairs.primitives[pair + 1]):
        if (2.0 * pairs.gaussians[q, 0]) ** pairs.shells[pair, 4] > _HIGHEST:
            return True
    return False


@njit(**INLINE)
def _nearest(value: Any) -> Any:
    return np.int32(value + (np.float32(0.5) if value > np.float32(0.0) else np.float32(-0.5)))


@njit(**OPTIONS, **INNER)
def _round(work: Any, w: int, functions: int, urgency: float, kept: Any, k: int, pair: int, end: int) -> int:
    """Store values[w] (functions, CHUNK) of the workspace from byte `end` on; return the next byte, or -1 if full."""
    values, peaks = work.values, work.axes[3]  # the squares there are no longer needed
    for g in range(CHUNK):
        peaks[g] = abs(values[w, 0, g])
    for f in range(1, functions):
        for g in range(CHUNK):
            peaks[g] = max(peaks[g], abs(values[w, f, g]))
    largest = 0.0
    for g in range(CHUNK):
        largest = max(largest, peaks[g])
    need = largest * urgency
    kept.widths[k, w, pair] = width = 0 if need < 1.0 else 1 if need < 254.0 else 2 if need < 65534.0 else 4
    size = width * functions * CHUNK
    if end + size > len(kept.bytes_1):
        return -1
    if width == 4:
        for f in range(functions):
            at = end // 4 + f * CHUNK
            row_4 = kept.bytes_4[at : at + CHUNK]
            for g in range(CHUNK):
                row_4[g] = values[w, f, g]
    elif width > 0:
        step = largest / (127.0 if width == 1 else 32767.0)
        kept.steps[k, w, pair] = step
        by = np.float32(1.0 / step)
        for f in range(functions):
            at = end // width + f * CHUNK
            if width == 1:
                row_1 = kept.bytes_1[at : at + CHUNK]
                for g in range(CHUNK):
                    row_1[g] = _nearest(np.float32(values[w, f, g]) * by)
            else:
                row_2 = kept.bytes_2[at : at + CHUNK]
                for g in range(CHUNK):
                    row_2[g] = _nearest(np.float32(values[w, f, g]) * by)
    return end + size


@njit(**OPTIONS)
def keep(points: np.ndarray, omegas: np.ndarray, pairs: Any, double: Any, single: Any, kept: Any) -> int:
    """Compute nu at points (3, G), rounded for `kept.sizes`; return the number of bytes, or -1 if they do not fit.

    `double` and `single` are the tables and workspace in both precisions.
    """
    end = 0
    for k in range(kept.sizes.shape[0]):
        kept.starts[k] = end
        for pair in range(len(pairs.shells)):
            functions = pairs.rows[pair + 1] - pairs.rows[pair]
            urgency = _urgency(pair, pairs.shells, kept.sizes, k)
            need = pairs.bounds[pair] * urgency
            if need < 1.0:
                kept.widths[k, :, pair] = 0
            elif need < _SINGLE and not _is_steep(pair, pairs):
                potentials(pair, points, k * CHUNK, omegas, pairs, single[0], single[1])
                for w in range(len(omegas)):
                    end = _round(single[1], w, functions, urgency, kept, k, pair, np.int64(end))
                    if end < 0:
                        return -1
            else:
                potentials(pair, points, k * CHUNK, omegas, pairs, double[0], double[1])
                for w in range(len(omegas)):
                    end = _round(double[1], w, functions, urgency, kept, k, pair, np.int64(end))
                    if end < 0:
                        return -1
    return end


@njit(**INLINE)
def _restored(width: int, step: float, functions: int, kept: Any, begin: int, values: Any, w: int) -> None:
    """Restore values[w] (functions, CHUNK) from the bytes from `begin` on."""
    real = values.dtype.type
    factor = real(step)
    if width == 1:
        for f in range(functions):
            row_1 = kept.bytes_1[begin + f * CHUNK : begin + (f + 1) * CHUNK]
            for g in range(CHUNK):
                values[w, f, g] = factor * real(row_1[g])
    elif width == 2:
        at = begin // 2
        for f in range(functions):
            row_2 = kept.bytes_2[at + f * CHUNK : at + (f + 1) * CHUNK]
            for g in range(CHUNK):
                values[w, f, g] = factor * real(row_2[g])
    else:
        at = begin // 4
        for f in range(functions):
            row_4 = kept.bytes_4[at + f * CHUNK : at + (f + 1) * CHUNK]
            for g in range(CHUNK):
                values[w, f, g] = real(row_4[g])


@njit(**OPTIONS)
def contract_kept(
    first: int, last: int, pairs: Any, kept: Any, values: Any, near: Any, vectors: np.ndarray, result: np.ndarray
) -> None:
    """Compute result (W, S, n, G) = nu E for `vectors` E (S, n, G) at chunks `first` to `last`, precise as `values`."""
    ranges = result.shape[0]
    for k in range(first, last):
        enter(k * CHUNK, vectors, near)
        for w in range(ranges):
            begin = kept.starts[k]
            for pair in range(len(pairs.shells)):
                functions = pairs.rows[pair + 1] - pairs.rows[pair]
                for v in range(ranges):
                    width = np.int64(kept.widths[k, v, pair])
                    if v == w and width > 0:
                        _restored(width, kept.steps[k, w, pair], functions, kept, begin, values, w)
                        contract_pair(pair, pairs.shells, values, w, 0, near)
                    begin += width * functions * CHUNK
        leave(k * CHUNK, near, result)
