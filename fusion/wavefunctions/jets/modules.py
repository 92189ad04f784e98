"""Layers that know their jet: an ansatz written with them has value, Laplacian and natural gradients.

Every layer has ``forward`` for values (B, N, F) and ``jet`` for jets (B, D + 2, N, F). Scores of linear layers are
known to the optimisers; the other layers with parameters have ``parameter_scores``.
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn

from fusion.wavefunctions.jets import rules
from fusion.wavefunctions.jets.jet import Jet


class Layer(Protocol):
    """Module with values and jets."""

    def __call__(self, x: Tensor) -> Tensor: ...

    def jet(self, x: Jet) -> Jet: ...


class Linear(nn.Linear):
    """``x W^T + b``."""

    def jet(self, x: Jet) -> Jet:
        return rules.linear(x, self.weight, self.bias)


class Tanh(nn.Module):
    """``tanh(x)``."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def jet(self, x: Jet) -> Jet:
        return rules.tanh(x)


class LayerNorm(nn.LayerNorm):
    """Normalisation of the features of one electron, with scale and offset (biased variance)."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__(width, eps)

    def jet(self, x: Jet) -> Jet:
        return rules.layer_norm(x, self.weight, self.bias, self.eps)

    def parameter_scores(self, grad_output: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Per-walker derivatives of log|psi| with respect to scale and offset, (B, F) each."""
        normalised = nn.functional.layer_norm(x, self.normalized_shape, eps=self.eps)
        return {"weight": (grad_output * normalised).sum(1), "bias": grad_output.sum(1)}


class SelfAttention(nn.Module):
    """Multi-head attention of all electrons to all electrons, without biases (von Glehn et al. 2023, eqs. 6-7)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width, bias=False) for _ in range(4))

    def linear_layers(self) -> tuple[nn.Linear, ...]:
        """Projections of queries, keys and values, and of the output."""
        return self.query, self.key, self.value, self.output

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        mixed = torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, dim=-1) @ v
        return cast(Tensor, self.output(mixed.transpose(1, 2).flatten(2)))

    def jet(self, x: Jet) -> Jet:
        q, k, v = (rules.linear(x, f.weight) for f in (self.query, self.key, self.value))
        return rules.linear(rules.attention(q, k, v, self.heads), self.output.weight)


class Residual(nn.Module):
    """``x + f(x)``."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.inner(x))

    def jet(self, x: Jet) -> Jet:
        return Jet(x.data + cast(Layer, self.inner).jet(x).data)


class Sequential(nn.Sequential):
    """Layers one after another."""

    def jet(self, x: Jet) -> Jet:
        for layer in self:
            x = cast(Layer, layer).jet(x)
        return x
