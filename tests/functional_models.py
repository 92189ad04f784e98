"""Functionals whose energies are known from elsewhere, and molecules for them."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.functionals import DensityFeatures

CX = -0.75 * (3.0 / math.pi) ** (1.0 / 3.0)

WATER = System(
    "water", ("O", "H", "H"), np.array([[0.0, 0.0, 0.1], [0.0, 1.43, 1.11], [0.0, -1.43, 1.11]]), charge=0, spin=0
)
OXYGEN_HYDRIDE = System("oh", ("O", "H"), np.array([[0.0, 0.0, 0.0], [0.0, 0.3, 1.8]]), spin=1)
HYDROGEN = System("h", ("H",), np.zeros((1, 3)), spin=1)


class SlaterExchange(nn.Module):
    """E_x[up, down] = (E_x[2 up] + E_x[2 down]) / 2 with the exchange of the uniform gas."""

    needs = frozenset({"rho"})

    def energy_density(self, features: DensityFeatures) -> Tensor:
        return 0.5 * CX * (2.0 * features.rho).pow(4.0 / 3.0).sum(dim=0)


class PBEExchange(nn.Module):
    """Perdew, Burke, Ernzerhof 1996, eqs. 10-14, spin-scaled."""

    needs = frozenset({"rho", "grad"})

    def energy_density(self, features: DensityFeatures) -> Tensor:
        assert features.grad is not None
        rho = 2.0 * features.rho.clamp_min(1e-20)
        sigma = 4.0 * features.grad.square().sum(dim=1)
        s2 = sigma / (4.0 * (3.0 * math.pi**2) ** (2.0 / 3.0) * rho.pow(8.0 / 3.0))
        kappa, mu = 0.804, 0.2195149727645171
        enhancement = 1.0 + kappa - kappa / (1.0 + mu * s2 / kappa)
        return 0.5 * CX * (rho.pow(4.0 / 3.0) * enhancement).sum(dim=0)


class Kinetic(nn.Module):
    """Slater exchange plus a multiple of the kinetic-energy density: exercises the meta-GGA path."""

    needs = frozenset({"rho", "tau"})

    def energy_density(self, features: DensityFeatures) -> Tensor:
        assert features.tau is not None
        return SlaterExchange().energy_density(features) + 0.02 * features.tau.sum(dim=0)


class ExactExchange(nn.Module):
    """The local exchange of Hartree-Fock theory: its integral is the exchange energy itself."""

    needs = frozenset({"rho", "hfx:0"})

    def energy_density(self, features: DensityFeatures) -> Tensor:
        return features.hfx[0.0].sum(dim=0)


class Everything(nn.Module):
    """Unphysical functional, nonlinear in every feature and different for both spins."""

    needs = frozenset({"rho", "grad", "tau", "hfx:0", "hfx:0.4"})

    def energy_density(self, features: DensityFeatures) -> Tensor:
        assert features.tau is not None
        up, down = features.rho
        semilocal = PBEExchange().energy_density(features) * (1.0 + 0.1 * torch.tanh(features.tau.sum(dim=0)))
        exchange = 0.3 * (features.hfx[0.0] * torch.tanh(features.rho)).sum(dim=0)
        ranges = 0.2 * (features.hfx[0.4] * features.hfx[0.0]).sum(dim=0) / (1.0 + up + 0.5 * down)
        return semilocal + exchange + ranges


class WholeGrid(nn.Module):
    """Pointwise functional in the form of one of the whole grid."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.needs = inner.needs | {"weights", "coords"}

    def energy(self, grid: DensityFeatures) -> Tensor:
        assert grid.weights is not None and grid.coords is not None
        assert grid.coords.shape == (len(grid.weights), 3)
        return grid.weights @ self.inner.energy_density(grid)
