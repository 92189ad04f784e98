"""The density on a grid as a functional sees it, spin-resolved and differentiable. Atomic units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

FEATURES: Final[frozenset[str]] = frozenset({"rho", "grad", "tau", "coords", "weights"})
"""What a functional can ask for, besides local Hartree-Fock exchange "hfx:OMEGA"."""


@dataclass(frozen=True)
class DensityFeatures:
    """Spin densities at G grid points, spin up first; what the functional does not need is None.

    A spin channel may be zero. The derivative of an energy with respect to the features is held in the same form.
    """

    rho: Tensor
    """(2, G) spin densities, bohr^-3."""
    grad: Tensor | None = None
    """(2, 3, G) their gradients, bohr^-4."""
    tau: Tensor | None = None
    """(2, G) kinetic-energy densities sum_i |grad phi_i|^2 / 2, hartree bohr^-3."""
    hfx: Mapping[float, Tensor] = field(default_factory=dict)
    """Range separation omega (1/bohr) -> (2, G) local Hartree-Fock exchange energy density with erf(omega r)/r in the
    place of 1/r (omega = 0: 1/r itself), hartree bohr^-3, never positive."""
    coords: Tensor | None = None
    """(G, 3) grid points, bohr."""
    weights: Tensor | None = None
    """(G,) quadrature weights, bohr^3."""

    def map(self, function: Callable[[Tensor], Tensor]) -> DensityFeatures:
        """Every tensor replaced by `function` of it."""
        found: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "hfx":
                found["hfx"] = {omega: function(tensor) for omega, tensor in value.items()}
            else:
                found[item.name] = None if value is None else function(value)
        return DensityFeatures(**found)

    def times(self, factor: Tensor) -> DensityFeatures:
        """Every tensor multiplied by `factor` (G,)."""
        return self.map(lambda tensor: tensor * factor)

    def at(self, points: Tensor | slice) -> DensityFeatures:
        """The features at some of the points: a mask (G,), indices or a slice."""
        chosen = replace(self, coords=None).map(lambda tensor: tensor[..., points])
        return replace(chosen, coords=None if self.coords is None else self.coords[points])

    def variables(self) -> list[Tensor]:
        """The tensors that depend on the density: rho, grad, tau and local exchange by rising omega."""
        named = [self.rho, self.grad, self.tau, *(self.hfx[omega] for omega in sorted(self.hfx))]
        return [tensor for tensor in named if tensor is not None]

    def with_variables(self, tensors: Iterable[Tensor]) -> DensityFeatures:
        """The same features with `tensors`, in the order of `variables`, in their places."""
        given = iter(tensors)
        return DensityFeatures(
            rho=next(given),
            grad=None if self.grad is None else next(given),
            tau=None if self.tau is None else next(given),
            hfx={omega: next(given) for omega in sorted(self.hfx)},
            coords=self.coords,
            weights=self.weights,
        )


def of_spins(
    needs: frozenset[str],
    coords: np.ndarray,
    weights: np.ndarray,
    rho: np.ndarray,
    grad: np.ndarray | None,
    tau: np.ndarray | None,
    hfx: Mapping[float, np.ndarray],
) -> DensityFeatures:
    """The features from arrays (S, ...) of both spins, or of one that stands for two equal ones.

    The places (G, 3) and weights (G,) of the points are among them where `needs` has them.
    """
    return DensityFeatures(
        rho=_both(rho),
        grad=None if grad is None else _both(grad),
        tau=None if tau is None else _both(tau),
        hfx={omega: _both(values) for omega, values in hfx.items()},
        coords=torch.from_numpy(coords) if "coords" in needs else None,
        weights=torch.from_numpy(weights) if "weights" in needs else None,
    )


def _both(values: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor if len(values) == 2 else tensor.expand(2, *tensor.shape[1:])


def joined(parts: Sequence[DensityFeatures]) -> DensityFeatures:
    """The features of several stretches of a grid as those of one."""
    first = parts[0]
    variables = [torch.cat(tensors, dim=-1) for tensors in zip(*(part.variables() for part in parts), strict=True)]
    return replace(
        first.with_variables(variables),
        coords=None if first.coords is None else torch.cat([part.coords for part in parts if part.coords is not None]),
        weights=None if first.weights is None else torch.cat([p.weights for p in parts if p.weights is not None]),
    )


def omegas(needs: Iterable[str]) -> tuple[float, ...]:
    """The range separations of the local exchange features among `needs`, rising."""
    return tuple(sorted(float(need.removeprefix("hfx:")) for need in needs if need.startswith("hfx:")))


def check_needs(needs: Iterable[str], name: str) -> None:
    """Raise ValueError for a feature that does not exist."""
    unknown = sorted(need for need in frozenset(needs) - FEATURES if not _is_exchange(need))
    if unknown:
        known = ", ".join([*sorted(FEATURES), "hfx:OMEGA"])
        raise ValueError(f"{name} needs {', '.join(unknown)}; the density features are {known}")


def _is_exchange(need: str) -> bool:
    prefix, _, omega = need.partition(":")
    try:
        return prefix == "hfx" and float(omega) >= 0.0
    except ValueError:
        return False
