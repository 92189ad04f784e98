"""Slater exchange, spin-polarised: -(3/4) (6/pi)^(1/3) (rho_up^(4/3) + rho_down^(4/3))."""

import math

from torch import Tensor, nn

from fusion.functionals import DensityFeatures


class Slater(nn.Module):
    needs = frozenset({"rho"})

    def energy_density(self, features: DensityFeatures) -> Tensor:
        return -0.75 * (6.0 / math.pi) ** (1.0 / 3.0) * features.rho.pow(4.0 / 3.0).sum(dim=0)
