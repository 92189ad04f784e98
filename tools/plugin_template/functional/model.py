"""Exchange-correlation functional: replace it by your own."""

import math

import torch
from torch import Tensor, nn

from fusion.functionals import DensityFeatures

SLATER = -0.75 * (6.0 / math.pi) ** (1.0 / 3.0)


class Model(nn.Module):
    """Slater exchange of each spin, enhanced by its reduced gradient, with two parameters that are trained.

    The enhancement, 1 + a x^2 / (1 + b x^2) with x = |grad rho| / rho^(4/3), is one for the homogeneous gas.
    """

    needs = frozenset({"rho", "grad"})

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.002))
        self.b = nn.Parameter(torch.tensor(0.003))

    def energy_density(self, features: DensityFeatures) -> Tensor:
        """Return the energy density (G,) in hartree/bohr^3; the core derives the potential and runs the SCF."""
        assert features.grad is not None
        rho = features.rho.clamp(min=1e-10)  # a spin may be empty, and float32 (drafts, training) has few digits
        squared = (features.grad / rho.pow(4.0 / 3.0)[:, None]).square().sum(dim=1)
        enhancement = 1.0 + self.a * squared / (1.0 + self.b.abs() * squared)
        return SLATER * (rho.pow(4.0 / 3.0) * enhancement).sum(dim=0)
