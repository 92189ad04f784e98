"""Protocol of learned functionals: an `nn.Module` from density features to the exchange-correlation energy."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from fusion.functionals.features import DensityFeatures


class Functional(Protocol):
    """Module with `needs` and either `energy_density` (pointwise) or `energy` (of the whole grid).

    Both are the complete exchange-correlation energy in the dtype of the module's parameters, differentiable even where
    a spin density is zero. A pointwise functional never gets points without any density. The core differentiates either
    for the potential; a pointwise functional with derivatives of its own supplies them by
    `derivatives(features) -> (energy_density (G,), DensityFeatures)`, the second holding d energy_density / d feature.
    """

    needs: frozenset[str]
    """Names of the features it uses: rho, grad, tau, coords, weights, hfx:OMEGA."""

    def energy_density(self, features: DensityFeatures) -> Tensor:
        """Energy per volume (G,), hartree bohr^-3, each value from the features of its own point."""
        ...

    def energy(self, grid: DensityFeatures) -> Tensor:
        """Scalar energy, hartree; `needs` should name weights."""
        ...


def is_pointwise(functional: Any) -> bool:
    """True if the energy is the integral of a function of each grid point's own features."""
    return not hasattr(functional, "energy")
