"""Derivatives of networks on many grid points, of which only inputs and outputs are kept in memory.

torch's own checkpoints do the same, but import torch's compiler, which takes seconds. Derivatives here are by tensors
given as arguments; they have no derivatives, and parameters and captured tensors get none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Run = Callable[..., Tensor]
"""Way to call a function of tensors: `called`, `recomputed` or `mapped`."""
POINTS: Final = 2048
"""Points per chunk: their hidden layers stay in the processor's caches."""


def called(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Return function(*tensors) with its whole graph, which training differentiates twice."""
    return function(*tensors)


def recomputed(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Return function(*tensors), which is computed again when it is differentiated."""
    value: Tensor = _Recomputed.apply(function, *tensors)
    return value


def mapped(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Return function(*tensors) for tensors with a row per point, computed and differentiated chunk by chunk."""
    parts = zip(*(tensor.split(POINTS) for tensor in tensors), strict=True)
    return torch.cat([recomputed(function, *part) for part in parts])


def weighted_sum(function: Callable[..., Tensor], factors: Tensor, *tensors: Tensor) -> Tensor:
    """Sum over points of factors (G,) times function(*tensors) (G,), in float64.

    The derivatives are computed with the values, which saves a second evaluation.
    """
    total: Tensor = _WeightedSum.apply(function, factors, *tensors)
    return total


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(*tensors)
        return function(*tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[1:]
        leaves = [t.detach().requires_grad_(want) for t, want in zip(ctx.saved_tensors, wanted, strict=True)]
        with torch.enable_grad():
            value = ctx.function(*leaves)
        variables = [leaf for leaf in leaves if leaf.requires_grad]
        slopes = iter(torch.autograd.grad(value, variables, slope, allow_unused=True))
        return None, *(next(slopes) if want else None for want in wanted)


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
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(slope.to(derivative) * derivative for derivative in ctx.saved_tensors)
