"""Protocol of learned functionals: an `nn.Module` from density features to the exchange-correlation energy."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from fusion.functionals.features import DensityFeatures


class Functional(Protocol):
    """Module with `needs`, and either `Pointwise` or `OnWholeGrid`.

    Both are the complete exchange-correlation energy in the dtype of the module's parameters, differentiable even where
    a spin density is zero. The core differentiates either for the potential.
    """

    needs: frozenset[str]
    """Names of the features it uses: rho, grad, tau, coords, weights, nuclei, hfx:OMEGA."""


@runtime_checkable
class Pointwise(Protocol):
    """Functional whose energy is an integral of an energy density; it never gets points without any density."""

    def energy_density(self, features: DensityFeatures) -> Tensor:
        """Energy per volume (G,), hartree bohr^-3, each value from the features of its own point."""
        ...


@runtime_checkable
class OnWholeGrid(Protocol):
    """Functional whose energy is not a sum over points."""

    def energy(self, grid: DensityFeatures) -> Tensor:
        """Scalar energy, hartree; `needs` should name weights."""
        ...


@runtime_checkable
class HasDerivatives(Protocol):
    """Pointwise functional with derivatives of its own, faster than those by torch."""

    def derivatives(self, features: DensityFeatures) -> tuple[Tensor, DensityFeatures]:
        """Return energy_density (G,) and its derivatives by the features."""
        ...


@runtime_checkable
class ToleratesFloat32(Protocol):
    """Pointwise functional whose energies in float32 are nearly those in float64."""

    float32_error: float
    """Upper estimate of the shift of the energy by rounding, hartree per electron."""


@runtime_checkable
class Symmetrizable(Protocol):
    """Functional whose energy depends on which spin is called up, and can be averaged over both orders."""

    symmetrize: bool
    """True if it is averaged (method.symmetrize)."""


def depends_on_origin(functional: Functional) -> bool:
    """True if the functional sees points without the nuclei that they surround: rotating electrons may cost energy."""
    return "coords" in functional.needs and "nuclei" not in functional.needs


def is_pointwise(functional: object) -> bool:
    """True if the energy is the integral of a function of each grid point's own features."""
    return not isinstance(functional, OnWholeGrid)
