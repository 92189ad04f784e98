"""Evaluation of networks on many grid points in chunks, so that only inputs and outputs of all points are in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

POINTS: Final = 2048
"""Points per chunk: their hidden layers stay in the processor's caches."""


def recomputed(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Return function(*tensors), whose intermediate results are computed again when it is differentiated."""
    value: Tensor = checkpoint(function, *tensors, use_reentrant=False, preserve_rng_state=False)
    return value


def mapped(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Concatenate `recomputed` function(*parts) over chunks of tensors with a row per point."""
    parts = zip(*(tensor.split(POINTS) for tensor in tensors), strict=True)
    return torch.cat([recomputed(function, *part) for part in parts])


def weighted_sum(function: Callable[..., Tensor], factors: Tensor, *tensors: Tensor) -> Tensor:
    """Sum over points of factors (G,) times function(*tensors) (G,), in float64; differentiable by the tensors alone.

    The derivatives are computed with the values, which saves `mapped`'s second evaluation. They have no derivatives,
    and the parameters of `function` get none.
    """
    total: Tensor = _WeightedSum.apply(function, factors, *tensors)
    return total


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], factors: Tensor, *tensors: Tensor) -> Tensor:
        derivatives = [torch.empty_like(tensor) for tensor in (factors, *tensors)]
        total = torch.zeros((), dtype=torch.float64, device=factors.device)
        for start in range(0, len(factors), POINTS):
            part = slice(start, start + POINTS)
            leaves = [tensor[part].detach().requires_grad_(True) for tensor in (factors, *tensors)]
            with torch.enable_grad():
                values = leaves[0].double() @ function(*leaves[1:]).double()
            for derivative, slope in zip(derivatives, torch.autograd.grad(values, leaves), strict=True):
                derivative[part] = slope
            total += values.detach()
        ctx.save_for_backward(*derivatives)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(slope.to(derivative) * derivative for derivative in ctx.saved_tensors)
