"""Exchange-correlation functional: replace it by your own."""

import math

from torch import Tensor, nn

from fusion.functionals import DensityFeatures


class Model(nn.Module):
    """Slater exchange, -(3/4) (6/pi)^(1/3) (rho_up^(4/3) + rho_down^(4/3)) in hartree/bohr^3."""

    needs = frozenset({"rho"})

    def energy_density(self, features: DensityFeatures) -> Tensor:
        """Return the energy density (G,) at the grid points; the core derives the potential and runs the SCF."""
        return -0.75 * (6.0 / math.pi) ** (1.0 / 3.0) * features.rho.pow(4.0 / 3.0).sum(dim=0)
