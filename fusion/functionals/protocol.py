"""What a learned functional is: an `nn.Module` from density features to the exchange-correlation energy."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from fusion.functionals.features import DensityFeatures


class Functional(Protocol):
    """A module with `needs` and either `energy_density` (pointwise) or `energy` (of the whole grid).

    Both are the whole exchange-correlation energy, differentiable where a spin density is zero too (points without any
    density are not shown to a pointwise functional), in the dtype of the module's parameters. The core differentiates
    either into the potential; a pointwise functional that knows its derivatives gives them by
    `derivatives(features) -> (energy_density (G,), DensityFeatures)`, the second holding d energy_density / d feature.
    """

    needs: frozenset[str]
    """Of rho, grad, tau, coords, weights, hfx:OMEGA."""

    def energy_density(self, features: DensityFeatures) -> Tensor:
        """(G,) energy per volume, hartree bohr^-3, each value from the features of its own point."""
        ...

    def energy(self, grid: DensityFeatures) -> Tensor:
        """Scalar energy, hartree; `needs` should name weights."""
        ...


def is_pointwise(functional: Any) -> bool:
    """Whether the energy is the integral of a function of each grid point's own features."""
    return not hasattr(functional, "energy")
