"""Network of Skala: Luise et al., arXiv:2506.14665.

At each grid point, seven features (density, squared gradient and kinetic-energy density of both spins, squared gradient
of the total density) give hidden numbers h, averaged over both orders of the spins. Messages of h go to the nuclei
within a cutoff and back to the points, where they are damped by exp(-rho). Both together give an enhancement factor f
in (0, 2):

    E_xc = sum_g w_g f_g e_LDA,   e_LDA = -(3/4) (6/pi)^{1/3} sum_sigma rho_sigma^{4/3}
"""

from __future__ import annotations

import math
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn

from fusion.errors import InputError
from fusion.functionals import DensityFeatures
from fusion_skala.chunks import Run, called, mapped, recomputed, weighted_sum
from fusion_skala.surroundings import HIGHEST, Remembered, Surroundings

FEATURES: Final = 7
OFFSET: Final = 1e-5
"""Constant in log(|feature| + OFFSET)."""
LDA: Final = -0.75 * (6.0 / math.pi) ** (1.0 / 3.0)
SWAPPED: Final = [1, 0, 3, 2, 5, 4, 6]
"""Order of the features when the spins are exchanged."""


class Messages(nn.Module):
    """Message passing from grid points to nuclei and back, invariant under rotations and the order of nuclei.

    A nucleus a collects M_lm^k = sum_g w_g R_k Y_lm (h W_l)_k / sqrt(2l + 1) from its surroundings; a point gets
    sum_a share R_k sum_lm Y_lm (M_lm W'_l)_k / sqrt(2l + 1), k = 1 ... C (see `fusion_skala.surroundings`).
    """

    def __init__(self, width: int, channels: int, degree: int, cutoff: float) -> None:
        super().__init__()
        self.channels, self.degree, self.cutoff = channels, degree, cutoff
        self.before = nn.Sequential(nn.Linear(width, channels), nn.SiLU())
        self.down = nn.Parameter(torch.empty(degree + 1, channels, channels))
        self.up = nn.Parameter(torch.empty(degree + 1, channels, channels))
        self.after = nn.Sequential(nn.Linear(channels, channels), nn.SiLU())
        nn.init.uniform_(self.down, -math.sqrt(3.0 / channels), math.sqrt(3.0 / channels))
        nn.init.uniform_(
            self.up, -math.sqrt(3.0 / (channels * (degree + 1))), math.sqrt(3.0 / (channels * (degree + 1)))
        )
        self._remembered = Remembered()

    def forward(self, hidden: Tensor, coords: Tensor, weights: Tensor, nuclei: Tensor, run: Run) -> Tensor:
        """Messages (G, C) for hidden numbers (G, width) at coords (G, 3) with weights (G,) around nuclei (A, 3)."""
        sent = self.before(hidden)
        around = self._remembered.at(coords, nuclei, self.cutoff, self.channels, self.degree)
        received = torch.zeros_like(sent)
        for nucleus, points in enumerate(around.points):
            message = run(partial(self._passed, around, nucleus), sent, weights, *around.places())
            received = received.index_add(0, points, message)
        return self.after(received)

    def _passed(self, around: Surroundings, nucleus: int, sent: Tensor, weights: Tensor, *places: Tensor) -> Tensor:
        """Messages (P, C) by way of one nucleus to the points around it."""
        pairs, points = around.pairs(nucleus, *places), around.points[nucleus]
        sent, weighted = sent[points], weights[points, None] * pairs.radial
        collected = []
        for degree in range(self.degree + 1):
            of_degree = pairs.harmonics[:, degree**2 : (degree + 1) ** 2]
            at_nucleus = of_degree.T @ (weighted * (sent @ self.down[degree]))
            collected.append(at_nucleus @ self.up[degree] / (2 * degree + 1))
        return pairs.share[:, None] * pairs.radial * (pairs.harmonics @ torch.cat(collected))


class Skala(nn.Module):
    """Skala functional; the published one has `width` 256, 16 `channels`, `degree` 3 and a `cutoff` of 5 bohr."""

    needs = frozenset({"rho", "grad", "tau", "coords", "weights", "nuclei"})

    def __init__(self, width: int = 256, channels: int = 16, degree: int = 3, cutoff: float = 5.0) -> None:
        super().__init__()
        if width < 1 or channels < 1 or degree not in range(HIGHEST + 1) or not cutoff > 0.0:
            raise InputError(
                f"Skala needs a width and channels of at least 1, a degree from 0 to {HIGHEST} and a positive cutoff "
                f"(bohr), not width={width}, channels={channels}, degree={degree}, cutoff={cutoff}"
            )
        self.input = nn.Sequential(nn.Linear(FEATURES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.messages = Messages(width, channels, degree, cutoff)
        self.output = nn.Sequential(
            nn.Linear(width + channels, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1),
        )  # fmt: skip

    def energy(self, grid: DensityFeatures) -> Tensor:
        """Exchange-correlation energy of a density on the whole grid, hartree."""
        assert grid.coords is not None and grid.weights is not None and grid.nuclei is not None
        closed = all(torch.equal(tensor[0], tensor[1]) for tensor in grid.variables())
        grid = _spin_averaged(grid) if closed else grid
        features = logarithms(grid)
        constant = not any(parameter.requires_grad for parameter in self.parameters())
        run, rows = (recomputed, mapped) if constant else (called, called)
        hidden = rows(self.input, features)
        if not closed:
            hidden = 0.5 * (hidden + rows(self.input, features[:, SWAPPED]))
        messages = self.messages(hidden, grid.coords, grid.weights, grid.nuclei, run)
        messages = messages * torch.exp(-grid.rho.sum(dim=0))[:, None]
        lda = LDA * grid.weights * grid.rho.clamp(min=0.0).pow(4.0 / 3.0).sum(dim=0)
        if constant:
            return weighted_sum(self.factors, lda, hidden, messages)
        return lda.double() @ self.factors(hidden, messages).double()

    def factors(self, hidden: Tensor, messages: Tensor) -> Tensor:
        """Enhancement factors (G,) of hidden numbers (G, width) and messages (G, channels)."""
        return 2.0 * torch.sigmoid(0.5 * self.output(torch.cat([hidden, messages], dim=1))[:, 0])


def logarithms(features: DensityFeatures) -> Tensor:
    """Inputs (G, 7) of the network, spin up first."""
    assert features.grad is not None and features.tau is not None
    squares = features.grad.square().sum(dim=1)
    total = features.grad.sum(dim=0).square().sum(dim=0, keepdim=True)
    return torch.log(torch.cat([features.rho, squares, features.tau, total]).abs() + OFFSET).T


def _spin_averaged(features: DensityFeatures) -> DensityFeatures:
    """Replace equal spins by their mean: the energy is the same, with one order of the spins instead of two.

    Derivatives by both spins are then equal too, as they are for the average over both orders.
    """
    means = [tensor.mean(dim=0, keepdim=True).expand_as(tensor) for tensor in features.variables()]
    return features.with_variables(means)
