"""The permutation-equivariant layer of FermiNet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusion.wavefunctions.jets import Jet


class EquivariantLinear(nn.Linear):
    """Linear map of f_i = [h_i, mean_up g_.i, mean_down g_.i, mean_up h, mean_down h] (Pfau et al. 2020, eqs. 3-4).

    The weight is that of one dense layer on the concatenated features, in this order, but it is applied in parts. Spin
    means are multiplied once per walker instead of once per electron. The derivatives of pair features, which involve
    two electrons only, are multiplied before they become dense. An empty spin channel is dropped.
    """

    def __init__(self, one: int, two: int, spins: tuple[int, ...], out: int) -> None:
        super().__init__((1 + len(spins)) * one + len(spins) * two, out)
        self.one, self.two, self.spins = one, two, spins

    def forward(self, h: Tensor, pair_means: Tensor) -> Tensor:  # type: ignore[override]
        """Pre-activations (B, N, out) from h (B, N, one) and pair means (B, N, spins * two)."""
        own, mean, pair = self._parts()
        shared = torch.addmm(self.bias, self._means(h, 1), mean.T).unsqueeze(1)
        return (h @ own.T).add_(pair_means @ pair.T).add_(shared)  # in place: fresh memory costs more time than the sum

    def score_inputs(self, h: Tensor, pair_means: Tensor) -> tuple[Tensor, Tensor]:
        """Own features of each electron (B, N, one + spins * two), and the shared spin means (B, spins * one)."""
        return torch.cat((h, pair_means), dim=-1), self._means(h, 1)

    def jet(self, h: Jet, pairs: Tensor) -> Jet:
        """Dense jet of the pre-activations from h's dense jet and the pairs' local one, (B, N, 5, N, two)."""
        own, mean, pair = self._parts()
        batch, _, n, _ = h.data.shape
        out = (self._means(h.data, 2) @ mean.T).unsqueeze(2).expand(-1, -1, n, -1).contiguous()
        by_electron = out[:, :-2].view(batch, n, 3, n, self.out_features)
        diagonal, start = [], 0
        for spin, weight in zip(self.spins, pair.split(self.two, dim=1), strict=True):
            block = pairs[:, start : start + spin]
            diagonal.append(block.mean(1))
            # r_k enters g_ki with opposite sign; the diagonal k = i has no derivative and is added below.
            by_electron[:, start : start + spin].add_(block[:, :, :3] @ (weight.T / -spin))
            start += spin
        local = torch.cat(diagonal, dim=-1) @ pair.T  # (B, 5, N, out)
        by_electron.diagonal(dim1=1, dim2=3).add_(local[:, :3].transpose(-1, -2))
        out[:, -2].add_(local[:, 3], alpha=2)  # both electrons of a pair contribute the same Laplacian
        out[:, -1].add_(local[:, 4]).add_(self.bias)
        out.view(-1, self.out_features).addmm_(h.data.reshape(-1, self.one), own.T)
        return Jet(out)

    def _means(self, h: Tensor, electrons: int) -> Tensor:
        """Means of h over the electrons of each spin, concatenated; ``electrons`` is their dimension."""
        return torch.cat([block.mean(electrons) for block in h.split(self.spins, dim=electrons)], dim=-1)

    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Columns of the weight for own features, spin means and pair means."""
        channels = len(self.spins)
        own, pair, mean = self.weight.split((self.one, channels * self.two, channels * self.one), dim=1)
        return own, mean, pair


def pair_means(pairs: Tensor, spins: tuple[int, ...]) -> Tensor:
    """Means over the first electron of pair features (B, N, N, F), spin by spin: (B, N, spins * F)."""
    return torch.cat([block.mean(1) for block in pairs.split(spins, dim=1)], dim=-1)
