"""Energies of a functional and their derivatives by the density features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fusion.errors import CalculationError
from fusion.functionals.features import DensityFeatures
from fusion.functionals.protocol import HasDerivatives, is_pointwise

VACUUM = 1e-14
"""Total density (bohr^-3) below which a point counts as empty for a pointwise functional, as in libxc."""


def differentiate(functional: Any, features: DensityFeatures, name: str) -> tuple[Tensor, DensityFeatures]:
    """Energy density (G,) of a pointwise functional, or energy () of a functional of the whole grid, and derivatives.

    All in float64, whatever precision the functional computes in. Raises CalculationError if a value is not finite.
    """
    dtype = next((parameter.dtype for parameter in functional.parameters()), torch.float64)
    if not is_pointwise(functional):
        shown = features.map(lambda tensor: tensor.to(dtype))
        values, derivatives = _by_autograd(lambda seen: checked(functional.energy(seen), (), name), shown, name)
        return _finite(values, derivatives, name)
    occupied = features.rho.sum(dim=0) > VACUUM
    shown = features.at(occupied).map(lambda tensor: tensor.to(dtype))
    if isinstance(functional, HasDerivatives):
        values, derivatives = functional.derivatives(shown)
        checked(values, shown.rho.shape[1:], name)
    else:
        values, derivatives = _by_autograd(lambda seen: energy_density(functional, seen, name), shown, name)
    values, derivatives = _finite(values, derivatives, name)
    return _scattered(values, occupied), derivatives.map(lambda tensor: _scattered(tensor, occupied))


def energy_density(functional: Any, features: DensityFeatures, name: str) -> Tensor:
    """Energy density (G,) of a pointwise functional. Raises CalculationError if it returns anything else."""
    return checked(functional.energy_density(features), features.rho.shape[1:], name)


def checked(values: Any, shape: tuple[int, ...], name: str) -> Tensor:
    """Return `values` if they are a floating-point tensor of this shape; raise CalculationError otherwise."""
    quantity = "energy_density (G,)" if shape else "energy ()"
    if not isinstance(values, Tensor) or not values.is_floating_point():
        kind = f"a tensor of {values.dtype}" if isinstance(values, Tensor) else type(values).__name__
        raise CalculationError(f"{name}: its {quantity} must be a tensor of floating-point numbers, not {kind}")
    if tuple(values.shape) != tuple(shape):
        raise CalculationError(f"{name}: its {quantity} must have the shape {tuple(shape)}, not {tuple(values.shape)}")
    return values


def _by_autograd(
    energy: Callable[[DensityFeatures], Tensor], features: DensityFeatures, name: str
) -> tuple[Tensor, DensityFeatures]:
    variables = [tensor.detach().requires_grad_(True) for tensor in features.variables()]
    with torch.enable_grad():
        values = energy(features.with_variables(variables))
        try:
            gradients = torch.autograd.grad(values.sum(), variables, allow_unused=True, materialize_grads=True)
        except RuntimeError as error:
            raise CalculationError(f"{name} is not differentiable in the density ({error})") from error
    return values.detach(), features.with_variables(gradients).without_places()


def _finite(values: Tensor, derivatives: DensityFeatures, name: str) -> tuple[Tensor, DensityFeatures]:
    finite = torch.isfinite(values).reshape(-1)
    for tensor in derivatives.variables():
        finite = finite & torch.isfinite(tensor).reshape(-1, tensor.shape[-1]).all(dim=0)
    if not finite.all():
        bad = int((~finite).sum())
        raise CalculationError(f"{name} or its derivative is not a finite number at {bad} of {len(finite)} grid points")
    return values.double(), derivatives.map(Tensor.double)


def _scattered(values: Tensor, occupied: Tensor) -> Tensor:
    """Values at the occupied points, zero at the others."""
    scattered = values.new_zeros(*values.shape[:-1], len(occupied))
    scattered[..., occupied] = values
    return scattered
