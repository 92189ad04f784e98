"""All members' networks of an element at once, with frozen weights: energies of atoms and their mean's gradient.

The first layers are one matrix product over the columns that a batch has; the others are batched over members. Atoms go
through in chunks, forward and back at once, so that what lies between stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 256
"""Atoms at once: enough for the matrix products, few enough for the cache."""


@dataclass(frozen=True)
class Packed:
    """Weights of one element's networks for the columns of a set of elements."""

    first: Tensor
    """(M h, F)."""
    first_bias: Tensor
    """(M h)."""
    weights: tuple[Tensor, ...]
    """(M, out, in) of the other hidden layers."""
    turned: tuple[Tensor, ...]
    """The same, (M, in, out)."""
    biases: tuple[Tensor, ...]
    """(M, 1, out)."""
    last: Tensor
    """(M, in, 1) of the linear layer."""
    last_bias: Tensor
    """(M, 1, 1)."""
    of_mean: Tensor
    """(M, 1, in), the gradient of the members' mean by what goes into the linear layer."""
    alpha: float
    sources: tuple[tuple[Tensor, Tensor, int], ...]
    """Each parameter, what it was and its version."""

    @classmethod
    def of(cls, weights: Sequence[Tensor], biases: Sequence[Tensor], columns: Tensor, alpha: float) -> Packed:
        """From weights (M, out, in) and biases (M, out) by layer, at least two of them, the last with one output."""
        sources = tuple((tensor, tensor.detach(), tensor._version) for tensor in (*weights, *biases))
        weights, biases = [weight.detach() for weight in weights], [bias.detach() for bias in biases]
        return cls(
            first=weights[0].index_select(2, columns).flatten(0, 1),
            first_bias=biases[0].reshape(-1),
            weights=tuple(weights[1:-1]),
            turned=tuple(weight.transpose(1, 2) for weight in weights[1:-1]),
            biases=tuple(bias[:, None] for bias in biases[1:-1]),
            last=weights[-1].transpose(1, 2),
            last_bias=biases[-1][:, None],
            of_mean=weights[-1] / len(weights[-1]),
            alpha=alpha,
            sources=sources,
        )

    def is_of(self, tensors: Sequence[Tensor]) -> bool:
        """Whether these are the parameters it was made of, unchanged. What goes past autograd's count is not seen."""
        for now, (tensor, was, version) in zip(tensors, self.sources, strict=True):
            if now is not tensor or now._version != version or now.data_ptr() != was.data_ptr():
                return False
        return True


def atomic_energies(packed: Packed, x: Tensor, differentiate: bool) -> tuple[Tensor, Tensor | None]:
    """The outputs (M, n) for `x` (n, f) and, where asked, their mean's gradient (n, f) by x.

    `x` may lack the last columns where they are zero.
    """
    first = packed.first if x.shape[1] == packed.first.shape[1] else packed.first[:, : x.shape[1]]
    if len(x) <= CHUNK:
        return _chunk(packed, first, x, differentiate)
    energies, gradients = zip(*(_chunk(packed, first, part, differentiate) for part in x.split(CHUNK)), strict=True)
    return torch.cat(energies, dim=1), torch.cat(gradients) if differentiate else None


def _chunk(packed: Packed, first: Tensor, x: Tensor, differentiate: bool) -> tuple[Tensor, Tensor | None]:
    members, alpha = len(packed.last), packed.alpha
    wide = torch.celu_(torch.addmm(packed.first_bias, x, first.t()), alpha)
    y = wide.view(len(x), members, -1).transpose(0, 1)
    layers = [y]
    for weight, bias in zip(packed.turned, packed.biases, strict=True):
        y = torch.celu_(torch.baddbmm(bias, y, weight), alpha)
        layers.append(y)
    energies = torch.baddbmm(packed.last_bias, y, packed.last).squeeze(2)
    if not differentiate:
        return energies, None
    back = _slope(packed.of_mean.expand_as(y), layers.pop(), alpha)
    for weight in reversed(packed.weights):
        back = _slope(torch.bmm(back, weight), layers.pop(), alpha)
    return energies, torch.mm(back.transpose(0, 1).reshape(len(x), -1), first)


def _slope(gradient: Tensor, y: Tensor, alpha: float) -> Tensor:
    """`gradient` times the derivative of CELU where its value is `y`."""
    if y.dtype == torch.float32:
        # torch rounds this operation's constants to float32.
        return torch.ops.aten.elu_backward(gradient, alpha, 1.0, 1.0 / alpha, True, y)
    return gradient * (1.0 + y / alpha).clamp_(max=1.0)
