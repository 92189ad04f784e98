"""Electron-electron Jastrow factor with the exact cusps."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CuspJastrow(nn.Module):
    """J = -sum_{i<j} c_ij a^2 / (a + r_ij), c = 1/4 for parallel and 1/2 for antiparallel spins, log psi += J.

    One length a per spin case (von Glehn et al. 2023, arXiv 2211.13672, eq. 4). dJ/dr = c at r = 0 for every a:
    Kato's cusp conditions.
    """

    cusps: Tensor
    pair_i: Tensor
    pair_j: Tensor
    antiparallel: Tensor

    def __init__(self, n_up: int, n_down: int) -> None:
        super().__init__()
        n = n_up + n_down
        i, j = torch.triu_indices(n, n, 1)
        antiparallel = (i < n_up) & (j >= n_up)
        self.register_buffer("pair_i", i, persistent=False)
        self.register_buffer("pair_j", j, persistent=False)
        self.register_buffer("antiparallel", antiparallel.long(), persistent=False)
        self.register_buffer("cusps", torch.where(antiparallel, 0.5, 0.25), persistent=False)
        self.length = nn.Parameter(torch.ones(2))  # parallel, antiparallel; bohr

    def _pairs(self, electrons: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        vector = electrons[:, self.pair_j] - electrons[:, self.pair_i]
        return vector, torch.linalg.vector_norm(vector, dim=-1), self.length[self.antiparallel]

    def forward(self, electrons: Tensor) -> Tensor:
        """J (B,) of electrons (B, N, 3)."""
        _, r, a = self._pairs(electrons)
        return -(self.cusps * a * a / (a + r)).sum(-1)

    def jet(self, electrons: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """J (B,), its gradient (B, 3N) and Laplacian (B,)."""
        vector, r, a = self._pairs(electrons)
        value = -(self.cusps * a * a / (a + r)).sum(-1)
        slope = self.cusps * a * a / (a + r) ** 2
        pull = (slope / r).unsqueeze(-1) * vector
        gradient = torch.zeros_like(electrons).index_add_(1, self.pair_j, pull).index_add_(1, self.pair_i, -pull)
        laplacian = 2 * (slope * (2 / r - 2 / (a + r))).sum(-1)
        return value, gradient.flatten(1), laplacian

    def parameter_scores(self, grad_output: Tensor, electrons: Tensor) -> dict[str, Tensor]:
        """Per-walker derivatives of log|psi| with respect to the two lengths, (B, 2)."""
        _, r, a = self._pairs(electrons)
        slope = -self.cusps * (2 * a / (a + r) - a * a / (a + r) ** 2)
        scores = grad_output.new_zeros(len(grad_output), 2)
        return {"length": scores.index_add_(1, self.antiparallel, slope * grad_output.unsqueeze(-1))}
