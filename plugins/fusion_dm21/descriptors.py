"""Inputs of DM21's network: eleven features, the energies that its factors enhance, and their constants."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fusion.functionals import DensityFeatures

OMEGAS = (0.0, 0.4)
"""Range separations of the local exchange, 1/bohr."""
FEATURES = 11
FACTORS = 3
LDA = -0.75 * (6.0 / math.pi) ** (1.0 / 3.0)
"""Exchange of the uniform electron gas per spin density^{4/3}, hartree bohr."""
OFFSET = 1e-9 + 1e-4
"""Constant added to a feature's magnitude before its logarithm."""
NORM_EPSILON = 1e-5


def raw(features: DensityFeatures) -> Tensor:
    """Eleven features (G, 11) of the network: rho a b, |grad|^2 total a b, tau a b, exchange a (0, 0.4) b (0, 0.4)."""
    assert features.grad is not None and features.tau is not None
    squares = (features.grad**2).sum(dim=1)
    total = (features.grad.sum(dim=0) ** 2).sum(dim=0)
    exchange = [features.hfx[omega][spin] for spin in (0, 1) for omega in OMEGAS]
    return torch.stack([*features.rho, total, *squares, *features.tau, *exchange], dim=1)


def energies(features: DensityFeatures) -> Tensor:
    """Energies (G, 3) that the factors enhance: uniform-gas exchange and both local exchanges, over both spins."""
    # The power's second derivative is infinite at zero, where the contribution must vanish.
    occupied = features.rho > 0.0
    rho = torch.where(occupied, features.rho, 1.0)
    lda = LDA * torch.where(occupied, rho ** (4.0 / 3.0), 0.0).sum(dim=0)
    return torch.stack([lda, *(features.hfx[omega].sum(dim=0) for omega in OMEGAS)], dim=1)


def swapped(features: DensityFeatures) -> DensityFeatures:
    """Features with the spins in the other order."""
    return features.with_variables([tensor.flip(0) for tensor in features.variables()])
