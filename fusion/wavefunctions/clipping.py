"""Clipping of local energies, which are unbounded near nodes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fusion.parallel.collectives import gather_rows


class Clipped(NamedTuple):
    """Local energies of all ranks in order (B,), which are finite, their clipped mean and the deviations from it."""

    energies: Tensor
    finite: Tensor
    clipped_mean: float
    deviation: Tensor

    @property
    def mean(self) -> float:
        """Mean of the finite local energies, unclipped: the reported energy."""
        return float(self.energies[self.finite].mean())

    @property
    def variance(self) -> float:
        """Variance of the finite local energies, unclipped, hartree^2."""
        return float(self.energies[self.finite].var(unbiased=False))

    def mean_of(self, values: Tensor) -> Tensor:
        """Mean of another quantity, (B, ...) on each rank, over the walkers with a finite local energy."""
        return gather_rows(values)[self.finite].mean(0)


def clip(local_energies: Tensor, width: float) -> Clipped:
    """Limit local energies to median +- width * mean|E - median| and centre them (Pfau et al. 2020).

    The centre is the median, which outliers near nodes cannot move. The deviation from the clipped mean (B,) enters the
    gradient; it is zero for walkers whose local energy is not finite. Uses the walkers of all ranks.
    """
    energies = gather_rows(local_energies)
    finite = torch.isfinite(energies)
    good = energies[finite]
    if not len(good):
        return Clipped(energies, finite, float("nan"), torch.zeros_like(energies))
    centre = good.median()
    reach = width * (good - centre).abs().mean()
    clipped = torch.where(finite, energies, centre).clamp(centre - reach, centre + reach)
    mean = clipped[finite].mean()
    return Clipped(energies, finite, float(mean), torch.where(finite, clipped - mean, 0.0))
