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
    biases: tuple[Tensor, ...]
    """(M, 1, out)."""
    last: Tensor
    """(M, 1, in) of the linear layer."""
    last_bias: Tensor
    """(M, 1)."""
    alpha: float
    sources: tuple[tuple[Tensor, Tensor, int], ...]
    """Each parameter, what it was and its version."""

    @classmethod
    def of(cls, weights: Sequence[Tensor], biases: Sequence[Tensor], columns: Tensor | None, alpha: float) -> Packed:
        """From weights (M, out, in) and biases (M, out) by layer, at least two of them, the last with one output."""
        sources = tuple((tensor, tensor.detach(), tensor._version) for tensor in (*weights, *biases))
        weights, biases = [weight.detach() for weight in weights], [bias.detach() for bias in biases]
        first = weights[0] if columns is None else weights[0].index_select(2, columns)
        return cls(
            first=first.flatten(0, 1),
            first_bias=biases[0].reshape(-1),
            weights=tuple(weights[1:-1]),
            biases=tuple(bias[:, None] for bias in biases[1:-1]),
            last=weights[-1],
            last_bias=biases[-1],
            alpha=alpha,
            sources=sources,
        )

    def is_of(self, tensors: Sequence[Tensor]) -> bool:
        """Whether these are the parameters it was made of, unchanged. What goes past autograd's count is not seen."""
        return all(
            now is tensor and now._version == version and now.data_ptr() == was.data_ptr()
            for now, (tensor, was, version) in zip(tensors, self.sources, strict=True)
        )


def atomic_energies(packed: Packed, x: Tensor, energies: Tensor, gradient: Tensor | None) -> None:
    """Write the outputs for `x` (n, F) to `energies` (M, n), their mean's gradient by x to `gradient` (n, F)."""
    for start in range(0, len(x), CHUNK):
        part = slice(start, start + CHUNK)
        _chunk(packed, x[part], energies[:, part], None if gradient is None else gradient[part])


def _chunk(packed: Packed, x: Tensor, energies: Tensor, gradient: Tensor | None) -> None:
    members, alpha = len(packed.last), packed.alpha
    wide = torch.celu_(torch.addmm(packed.first_bias, x, packed.first.t()), alpha)
    y = wide.view(len(x), members, -1).transpose(0, 1)
    layers = [y]
    for weight, bias in zip(packed.weights, packed.biases, strict=True):
        y = torch.celu_(torch.baddbmm(bias, y, weight.transpose(1, 2)), alpha)
        layers.append(y)
    torch.add((y @ packed.last.transpose(1, 2))[:, :, 0], packed.last_bias, out=energies)
    if gradient is None:
        return
    back = _slope((packed.last / members).expand_as(y), layers.pop(), alpha)
    for weight in reversed(packed.weights):
        back = _slope(torch.bmm(back, weight), layers.pop(), alpha)
    torch.mm(back.transpose(0, 1).reshape(len(x), -1), packed.first, out=gradient)


def _slope(gradient: Tensor, y: Tensor, alpha: float) -> Tensor:
    """`gradient` times the derivative of CELU where its value is `y`."""
    if y.dtype == torch.float32:
        # torch rounds this operation's constants to float32.
        return torch.ops.aten.elu_backward(gradient, alpha, 1.0, 1.0 / alpha, True, y)
    return gradient * (1.0 + y / alpha).clamp_(max=1.0)
