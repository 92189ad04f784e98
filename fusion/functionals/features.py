"""Density features on a grid, the inputs of functionals: spin-resolved and differentiable. Atomic units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

FEATURES: Final[frozenset[str]] = frozenset({"rho", "grad", "tau", "coords", "weights", "nuclei"})
"""Features that a functional can request, besides local Hartree-Fock exchange "hfx:OMEGA"."""


@dataclass(frozen=True)
class DensityFeatures:
    """Spin densities at G grid points, spin up first; features that the functional does not need are None.

    A spin channel may be zero. Derivatives of an energy by the features have the same form.
    """

    rho: Tensor
    """(2, G) spin densities, bohr^-3."""
    grad: Tensor | None = None
    """(2, 3, G) gradients of the spin densities, bohr^-4."""
    tau: Tensor | None = None
    """(2, G) kinetic-energy densities sum_i |grad phi_i|^2 / 2, hartree bohr^-3."""
    hfx: Mapping[float, Tensor] = field(default_factory=dict)
    """Range separation omega (1/bohr) -> (2, G) local Hartree-Fock exchange energy density with erf(omega r)/r
    instead of 1/r (omega = 0: 1/r itself), hartree bohr^-3, never positive."""
    coords: Tensor | None = None
    """(G, 3) grid points, bohr."""
    weights: Tensor | None = None
    """(G,) quadrature weights, bohr^3."""
    nuclei: Tensor | None = None
    """(A, 3) positions of the nuclei, bohr; the same for every part of a grid."""

    def map(self, function: Callable[[Tensor], Tensor]) -> DensityFeatures:
        """Apply `function` to every tensor."""
        mapped: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "hfx":
                mapped["hfx"] = {omega: function(tensor) for omega, tensor in value.items()}
            else:
                mapped[item.name] = None if value is None else function(value)
        return DensityFeatures(**mapped)

    def times(self, factor: Tensor) -> DensityFeatures:
        """Multiply every tensor by `factor` (G,)."""
        return self.map(lambda tensor: tensor * factor)

    def at(self, points: Tensor | slice) -> DensityFeatures:
        """Features at some of the points: a mask (G,), indices or a slice."""
        chosen = replace(self, coords=None, nuclei=None).map(lambda tensor: tensor[..., points])
        return replace(chosen, coords=None if self.coords is None else self.coords[points], nuclei=self.nuclei)

    def variables(self) -> list[Tensor]:
        """Tensors that depend on the density: rho, grad, tau and local exchange by rising omega."""
        named = [self.rho, self.grad, self.tau, *(self.hfx[omega] for omega in sorted(self.hfx))]
        return [tensor for tensor in named if tensor is not None]

    def with_variables(self, tensors: Iterable[Tensor]) -> DensityFeatures:
        """Replace the tensors that depend on the density by `tensors`, in the order of `variables`."""
        remaining = iter(tensors)
        return DensityFeatures(
            rho=next(remaining),
            grad=None if self.grad is None else next(remaining),
            tau=None if self.tau is None else next(remaining),
            hfx={omega: next(remaining) for omega in sorted(self.hfx)},
            coords=self.coords,
            weights=self.weights,
            nuclei=self.nuclei,
        )

    def without_places(self) -> DensityFeatures:
        """Leave out what does not depend on the density: coords, weights and nuclei."""
        return replace(self, coords=None, weights=None, nuclei=None)


def of_spins(
    needs: frozenset[str],
    coords: np.ndarray,
    weights: np.ndarray,
    nuclei: np.ndarray,
    rho: np.ndarray,
    grad: np.ndarray | None,
    tau: np.ndarray | None,
    hfx: Mapping[float, np.ndarray],
) -> DensityFeatures:
    """Build features from arrays (S, ...) of both spins, or of one that stands for two equal ones.

    They include the coordinates (G, 3) and weights (G,) of the points and the nuclei (A, 3) if `needs` has them.
    """
    return DensityFeatures(
        rho=_both(rho),
        grad=None if grad is None else _both(grad),
        tau=None if tau is None else _both(tau),
        hfx={omega: _both(values) for omega, values in hfx.items()},
        coords=torch.from_numpy(coords) if "coords" in needs else None,
        weights=torch.from_numpy(weights) if "weights" in needs else None,
        nuclei=torch.from_numpy(nuclei) if "nuclei" in needs else None,
    )


def _both(values: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor if len(values) == 2 else tensor.expand(2, *tensor.shape[1:])


def joined(parts: Sequence[DensityFeatures]) -> DensityFeatures:
    """Concatenate the features of several parts of a grid."""
    first = parts[0]
    variables = [torch.cat(tensors, dim=-1) for tensors in zip(*(part.variables() for part in parts), strict=True)]
    return replace(
        first.with_variables(variables),
        coords=None if first.coords is None else torch.cat([part.coords for part in parts if part.coords is not None]),
        weights=None if first.weights is None else torch.cat([p.weights for p in parts if p.weights is not None]),
    )


def omegas(needs: Iterable[str]) -> tuple[float, ...]:
    """Range separations of the local exchange features among `needs`, in rising order."""
    return tuple(sorted(float(need.removeprefix("hfx:")) for need in needs if need.startswith("hfx:")))


def check_needs(needs: Iterable[str], name: str) -> None:
    """Raise ValueError for a feature that does not exist."""
    unknown = sorted(need for need in frozenset(needs) - FEATURES if not _is_exchange(need))
    if unknown:
        available = ", ".join([*sorted(FEATURES), "hfx:OMEGA"])
        raise ValueError(f"{name} needs {', '.join(unknown)}; the density features are {available}")


def _is_exchange(need: str) -> bool:
    prefix, _, omega = need.partition(":")
    try:
        return prefix == "hfx" and float(omega) >= 0.0
    except ValueError:
        return False
