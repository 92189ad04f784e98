"""Branching with a fixed number of walkers, and what the fixed number does to the energy."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fusion.parallel.collectives import gather_rows, own_rows
from fusion.wavefunctions.diffusion.walk import Walkers
from fusion.wavefunctions.statistics import Estimate, blocked


def comb(weights: Tensor, offset: float) -> Tensor:
    """Numbers (B,) of the walkers that go on, walker b about B w_b / sum(w) times: floor or ceiling of it.

    Systematic resampling: equidistant teeth with a common random ``offset`` in [0, 1) on the cumulated weights. Every
    walker is expected B w_b / sum(w) times exactly; equal weights keep all (Assaraf, Caffarel and Khelif 2000, Phys.
    Rev. E 61, 4566, for the reconfiguration at a fixed number of walkers).
    """
    number = len(weights)
    cumulated = torch.cumsum(weights.double(), 0)
    teeth = (torch.arange(number, dtype=torch.float64, device=weights.device) + offset) * (cumulated[-1] / number)
    return torch.searchsorted(cumulated, teeth, right=True).clamp(max=number - 1)


def branched(walkers: Walkers, weights: Tensor, offset: float) -> Walkers:
    """Walkers of this rank that go on, from those of all ranks with ``weights`` (B,) of all ranks."""
    chosen = comb(weights, offset)
    everyone = Walkers(*(gather_rows(column) for column in walkers))
    return everyone.take(own_rows(chosen))


def population_bias(energies: np.ndarray, log_weights: np.ndarray, window: int) -> Estimate:
    """Energy of a fixed population minus that of a free one, from the weights that fixing it removed.

    Without control, step t would count with G_t, the product of the mean weights of the ``window`` steps up to t
    (Nightingale and Bloete 1986). The bias is E - sum G E / sum G; its error is that of the linearised ratio.
    """
    sums = np.cumsum(np.concatenate(([0.0], log_weights)))
    last = np.arange(1, len(energies) + 1)
    # A window at the start of the run has fewer steps: the mean weight of a step fills it.
    first = np.maximum(last - window, 0)
    logs = sums[last] - sums[first] - (last - first) * log_weights.mean()
    factor = np.exp(logs - logs.max())
    factor /= factor.mean()
    return blocked(-(factor - 1) * (energies - energies.mean()))
