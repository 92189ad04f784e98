"""Error bars of correlated series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

FEW = 32
"""Number of blocks whose scatter has an uncertainty of an eighth."""


class Estimate(NamedTuple):
    """Mean and its standard error."""

    value: float
    stderr: float

    def sigmas_from(self, other: Estimate) -> float:
        """Distance of two independent estimates in their combined standard error."""
        return abs(self.value - other.value) / max(float(np.hypot(self.stderr, other.stderr)), 1e-300)


def blocked(series: np.ndarray) -> Estimate:
    """Mean and standard error of a correlated stationary series by reblocking (Flyvbjerg & Petersen 1989).

    Pairs of neighbours are averaged repeatedly; the naive error of the blocked series grows until blocks are
    longer than the correlation time, which `balanced` decides. A series with fewer than two values has no error (nan).
    """
    series = np.asarray(series, dtype=np.float64)
    n = len(series)
    if n < 2:
        return Estimate(float(series.mean()) if n else float("nan"), float("nan"))
    errors: list[float] = []
    lengths: list[int] = []
    blocks = series
    while len(blocks) >= 2:
        errors.append(float(blocks.std(ddof=1)) / len(blocks) ** 0.5)
        lengths.append(2 ** len(lengths))
        blocks = 0.5 * (blocks[: len(blocks) // 2 * 2 : 2] + blocks[1::2])
    return Estimate(float(series.mean()), balanced(errors, lengths, n))


def balanced(errors: Sequence[float], lengths: Sequence[int], n: int) -> float:
    """Choose among naive errors of blocked series of ``n`` values, whose block lengths begin with 1 and double.

    The block length B is the shortest with B^3 > 2 n (s_B / s_1)^4 (Wolff 2004; Lee et al. 2011), which balances the
    remaining correlation against the error of the error. If the series has fewer than FEW of these blocks, the largest
    error up to their length counts, since that of two or three blocks is noise and may be close to zero; if no length
    is long enough, the largest of all.
    """
    if errors[0] == 0:
        return 0.0
    for level, (length, error) in enumerate(zip(lengths, errors, strict=True)):
        if length**3 > 2 * n * (error / errors[0]) ** 4:
            return error if n // length >= FEW else max(errors[: level + 1])
    return max(errors)


def drift(series: np.ndarray) -> Estimate:
    """Mean of the second half of a series minus that of the first, with its error."""
    half = len(series) // 2
    first, second = blocked(series[:half]), blocked(series[half:])
    return Estimate(second.value - first.value, float(np.hypot(first.stderr, second.stderr)))
