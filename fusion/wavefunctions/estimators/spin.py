"""Total spin."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.wavefunctions.estimators.protocol import Estimates, with_stderr
from fusion.wavefunctions.hamiltonians import LocalEnergy, Point
from fusion.wavefunctions.statistics import blocked


class Spin(nn.Module):
    """<S^2> in units of hbar^2; a measurement takes n_up n_down wavefunctions per walker."""

    name = "spin"
    measures: tuple[str, ...] = ("spin_squared",)

    def __init__(self, system: System, every: int = 20) -> None:
        super().__init__()
        self.n_up, self.every = system.n_up, every

    def forward(self, point: Point, local: LocalEnergy) -> Mapping[str, Tensor]:
        """Local values of S^2."""
        return {"spin_squared": spin_squared(point, self.n_up)}

    def finish(self, series: Mapping[str, np.ndarray]) -> Estimates:
        """Mean with its error."""
        return Estimates(details={"spin_squared": with_stderr(*blocked(series["spin_squared"]))})


def spin_squared(point: Point, n_up: int) -> Tensor:
    """Local value of S^2, (B,), whose mean over |psi|^2 is <S^2>, in units of hbar^2.

    For n_up >= n_down, S^2 psi / psi = s(s + 1) + n_down - sum_ab psi(r_a <-> r_b) / psi with s = (n_up - n_down) / 2
    and the sum over pairs of one spin-up and one spin-down electron (Pfau et al. 2024, arXiv 2308.16848, supplement).
    """
    batch, n = point.electrons.shape[:2]
    high, low = max(n_up, n - n_up), min(n_up, n - n_up)
    s = (high - low) / 2
    walkers = torch.arange(batch, device=point.electrons.device)
    total = torch.full((batch,), s * (s + 1) + low, dtype=torch.float64, device=walkers.device)
    for a in range(n_up):
        for b in range(n_up, n):
            order = list(range(n))
            order[a], order[b] = b, a
            total -= point.ratios(walkers, point.electrons[:, order])
    return total
