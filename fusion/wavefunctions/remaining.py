"""Remaining error of an optimised energy: how far it lies above where the optimisation, or psi itself, could still get.

Two estimates, neither of which needs a reference:

* More steps. The excess of the energy falls like t^-p, with p between 0.7 (ethylene) and 1.3 (hydrogen chains) in
  published optimisations, so that E(t) - E(infinity) = [E(t/2) - E(t)] / (2^p - 1). The smallest p gives the largest
  error.
* Variance. Energy and variance of an eigenstate are E0 and 0; close to it, excess and variance are proportional. The
  line E = E0 + c V through windows of the optimisation estimates the excess c V of the final wavefunction, also the
  part that no further step of this network would remove. Where the variance hardly falls, as in runs that start at a
  good wavefunction, c is that of other systems.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fusion.wavefunctions.statistics import Estimate, blocked

SLOWEST = 0.7
"""Smallest exponent p of the decrease t^-p."""

SHORTEST = 40
"""Steps below which an optimisation is too short for an estimate."""

WINDOWS = 8
"""Windows of the line through energies and variances; each is longer than the one before it by the same factor."""

FIRST = 1 / 16
"""Share of the steps before the first window, in which the wavefunction is far from an eigenstate."""


SIGMAS = 2.0
"""Standard errors that the remaining error contains, so that few runs lie above it."""

SPAN = 2.0
"""Factor by which the variance must fall: otherwise noise determines the line."""

TYPICAL = Estimate(0.04, 0.02)
"""c (1/hartree) where there is no line. 1 / c is a mean excitation energy of what is wrong in psi: 12 to 40 hartree in
LiH, water, and atoms from beryllium to neon (benchmarks/vmc_accuracy.md)."""


class Remaining(NamedTuple):
    """Estimates (hartree) of the excess of an energy: from the decrease with more steps, from the variance, and the
    energy extrapolated to zero variance; the second is None without variances, the last if they hardly changed."""

    by_steps: Estimate
    by_variance: Estimate | None
    extrapolated: Estimate | None

    @property
    def error(self) -> float:
        """The larger of both excesses, hartree, each with twice its standard error."""
        known = [estimate for estimate in (self.by_steps, self.by_variance) if estimate is not None]
        return max(max(estimate.value, 0.0) + SIGMAS * estimate.stderr for estimate in known)


def remaining(energies: Sequence[float], variances: Sequence[float], final: Estimate, variance: float) -> Remaining:
    """Estimate the excess of the energy ``final`` (hartree) with ``variance`` (hartree^2) after an optimisation.

    ``energies`` and ``variances`` are those of all steps. Raises ValueError for fewer than SHORTEST steps.
    """
    series = np.array(energies)
    if len(series) < SHORTEST:
        raise ValueError(f"{len(series)} steps are too few to estimate the remaining error")
    before = blocked(series[len(series) * 3 // 8 : len(series) * 5 // 8])
    factor = 1 / (2**SLOWEST - 1)
    decrease = Estimate(factor * (before.value - final.value), factor * float(np.hypot(before.stderr, final.stderr)))
    if len(variances) != len(energies):
        return Remaining(decrease, None, None)
    line = _line(series, np.array(variances))
    if line is None:
        return Remaining(decrease, Estimate(TYPICAL.value * variance, TYPICAL.stderr * variance), None)
    excess = Estimate(line[0] * variance, line[1] * variance)
    lowest = Estimate(final.value - excess.value, float(np.hypot(final.stderr, excess.stderr)))
    return Remaining(decrease, excess, lowest)


def is_within(energies: Sequence[float], variances: Sequence[float], until: float) -> bool:
    """True if the remaining error (hartree) of an unfinished optimisation, with its error bar, is below ``until``."""
    if len(energies) < SHORTEST:
        return False
    last = slice(-(len(energies) // 4), None)
    final, variance = blocked(np.array(energies[last])), float(np.median(variances[last]))
    return max(remaining(energies, variances, final, variance).error, final.stderr) <= until


def _line(energies: np.ndarray, variances: np.ndarray) -> tuple[float, float] | None:
    """Slope (1/hartree) of energy against variance over the windows, with its error; None if the variance falls by less
    than SPAN.

    The variance of a window is the median of its steps: single walkers near a node would dominate a mean.
    """
    edges = np.geomspace(FIRST * len(energies), len(energies), WINDOWS + 1).round().astype(int)
    windows = [slice(start, end) for start, end in pairwise(edges)]
    means = [blocked(energies[window]) for window in windows]
    y, x = np.array([mean.value for mean in means]), np.array([np.median(variances[window]) for window in windows])
    errors = np.array([mean.stderr for mean in means])
    if x.min() <= 0 or x.max() < SPAN * x.min() or not (errors > 0).all():
        return None
    weight = errors**-2.0
    centred = x - np.average(x, weights=weight)
    spread = float((weight * centred**2).sum())
    slope = float((weight * centred * y).sum()) / spread
    misfit = float((weight * (y - np.average(y, weights=weight) - slope * centred) ** 2).sum()) / (WINDOWS - 2)
    return slope, float((max(misfit, 1.0) / spread) ** 0.5)
