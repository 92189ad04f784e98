"""Network of DM21: Kirkpatrick et al., Science 374, 1385 (2021), supplement, section 1.2.

At each grid point eleven features of the two spins (densities, squared gradients, kinetic-energy densities and local
Hartree-Fock exchange, with 1/r and with erf(0.4 r)/r) give three enhancement factors f_k in (0, 2):

    e_xc = f_1 e_LDA + f_2 e_HF + f_3 e_HF^{0.4},   e_LDA = -(3/4) (6/pi)^{1/3} sum_sigma rho_sigma^{4/3}

Published weights are not symmetric in the spins: they expect the majority spin first, as PySCF does.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from fusion.errors import InputError
from fusion.functionals import DensityFeatures
from fusion_dm21.descriptors import FACTORS, FEATURES, NORM_EPSILON, OFFSET, OMEGAS, energies, raw, swapped


class Block(nn.Module):
    """ELU(LayerNorm(x + W x + b)): the residual is inside the norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (G, width) to the same shape."""
        return elu(self.norm(x + self.linear(x)))


class DM21(nn.Module):
    """DM21 functional; published functionals have `width` 256 and `depth` 6.

    `symmetrize` averages over both orders of the spins. Local exchange with range separations other than `OMEGAS` is
    ignored.
    """

    needs = frozenset({"rho", "grad", "tau", *(f"hfx:{omega:g}" for omega in OMEGAS)})
    float32_error = 1e-8
    """3e-9 to 7e-9 hartree per electron for the published weights, in H2O, CH4 and C6H6."""

    def __init__(self, width: int = 256, depth: int = 6, symmetrize: bool = False) -> None:
        super().__init__()
        if width < 1 or depth < 1:
            raise InputError(f"DM21 needs a depth and a width of at least 1, not {depth} and {width}")
        self.symmetrize = symmetrize
        self.input = nn.Linear(FEATURES, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.output = nn.Linear(width, FACTORS)

    def energy_density(self, features: DensityFeatures) -> Tensor:
        """Energy density (G,), hartree bohr^-3, twice differentiable by the features and the parameters."""
        energy = self._energy_density(features)
        return 0.5 * (energy + self._energy_density(swapped(features))) if self.symmetrize else energy

    def derivatives(self, features: DensityFeatures) -> tuple[Tensor, DensityFeatures]:
        """Energy density (G,) and its derivatives by the features, without a graph; by compiled code on CPUs."""
        from fusion_dm21 import fused

        if self.input.weight.device.type != "cpu":
            return self._by_autograd(features)
        energy, by_features = fused.derivatives(self, features)
        if not self.symmetrize:
            return energy, by_features
        if all(torch.equal(tensor[0], tensor[1]) for tensor in features.variables()):
            other_energy, other = energy, by_features  # both orders are the same point
        else:
            other_energy, other = fused.derivatives(self, swapped(features))
        pairs = zip(by_features.variables(), swapped(other).variables(), strict=True)
        return 0.5 * (energy + other_energy), by_features.with_variables(
            [0.5 * (own + swapped_) for own, swapped_ in pairs]
        )

    def factors(self, x: Tensor) -> Tensor:
        """Enhancement factors (G, 3) of raw features (G, 11)."""
        h = torch.tanh(self.input(torch.log(x.abs() + OFFSET)))
        for block in self.blocks:
            h = block(h)
        return 2.0 * torch.sigmoid(0.5 * self.output(h))

    def _energy_density(self, features: DensityFeatures) -> Tensor:
        return (self.factors(raw(features)) * energies(features)).sum(dim=1)

    def _by_autograd(self, features: DensityFeatures) -> tuple[Tensor, DensityFeatures]:
        variables = [tensor.detach().requires_grad_() for tensor in features.variables()]
        with torch.enable_grad():
            energy = self.energy_density(features.with_variables(variables))
            by_features = features.with_variables(torch.autograd.grad(energy.sum(), variables))
        return energy.detach(), replace(by_features, coords=None, weights=None)


def elu(x: Tensor) -> Tensor:
    """ELU: x above zero, exp(x) - 1 below; every derivative is accurate to rounding."""
    return x.clamp(min=0.0) + torch.expm1(x.clamp(max=0.0))
