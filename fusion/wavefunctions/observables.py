"""Expectation values besides the energy."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def spin_squared(ansatz: nn.Module, electrons: Tensor, n_up: int) -> Tensor:
    """Local value of S^2, (B,), whose mean over |psi|^2 is <S^2>, in units of hbar^2.

    For n_up >= n_down, S^2 psi / psi = s(s + 1) + n_down - sum_ab psi(r_a <-> r_b) / psi with s = (n_up - n_down) / 2
    and the sum over pairs of one spin-up and one spin-down electron (Pfau et al. 2024, arXiv 2308.16848, supplement).
    """
    n = electrons.shape[1]
    n_down = n - n_up
    high, low = max(n_up, n_down), min(n_up, n_down)
    s = (high - low) / 2
    sign, log = ansatz(electrons)
    total = torch.full(log.shape, s * (s + 1) + low, dtype=torch.float64, device=log.device)
    for a in range(n_up):
        for b in range(n_up, n):
            order = list(range(n))
            order[a], order[b] = b, a
            swapped_sign, swapped_log = ansatz(electrons[:, order])
            total -= (sign * swapped_sign).double() * torch.exp((swapped_log - log).double())
    return total
