"""All members' networks of an element at once, with frozen weights: energies of atoms and their mean's gradient.

The first layers are one matrix product over the columns that a batch has; the others are batched over members. Atoms go
through in chunks, forward and back at once, so that what lies between stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

CHUNK = 256
"""Atoms at once: enough for the matrix products, few enough for the cache."""

ATOMS_BLOCKED = 48
"""From so many atoms on oneDNN's products of blocked weights are faster than those of torch.mm and torch.bmm."""


@dataclass(frozen=True)
class Blocked:
    """Weights (out, in) in oneDNN's order, by member and layer, and their transposes."""

    first: Tensor
    first_back: Tensor
    weights: list[list[Tensor]]
    back: list[list[Tensor]]


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

    @cached_property
    def blocked(self) -> Blocked:
        """The weights as oneDNN wants them."""
        members = range(len(self.last))
        return Blocked(
            first=_blocked(self.first),
            first_back=_blocked(self.first.t()),
            weights=[[_blocked(weight[member]) for weight in self.weights] for member in members],
            back=[[_blocked(weight[member]) for weight in self.turned] for member in members],
        )

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
    """The outputs (M, n) for `x` (n, F) and, where asked, their mean's gradient (n, F) by x."""
    if len(x) <= CHUNK:
        return _chunk(packed, x, differentiate)
    energies, gradients = zip(*(_chunk(packed, part, differentiate) for part in x.split(CHUNK)), strict=True)
    return torch.cat(energies, dim=1), torch.cat(gradients) if differentiate else None


def _blocked(weight: Tensor) -> Tensor:
    result: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), CHUNK)
    return result


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (n, in) times the transpose of a blocked weight (out, in), plus bias (out,)."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


def _blocked_chunk(packed: Packed, x: Tensor, differentiate: bool) -> tuple[Tensor, Tensor | None]:
    """As `_chunk`, one member after the other."""
    blocked, alpha = packed.blocked, packed.alpha
    members, inputs = len(packed.last), packed.first.shape[0] // len(packed.last)
    wide = torch.celu_(_product(x, blocked.first, packed.first_bias), alpha)
    energies, back_wide = x.new_empty(members, len(x)), torch.empty_like(wide)
    for member in range(members):
        part = slice(member * inputs, (member + 1) * inputs)
        layers = [wide[:, part].contiguous()]
        for weight, bias in zip(blocked.weights[member], packed.biases, strict=True):
            layers.append(torch.celu_(_product(layers[-1], weight, bias[member, 0]), alpha))
        y = layers.pop()
        energies[member] = torch.mv(y, packed.last[member, :, 0]) + packed.last_bias[member, 0]
        if differentiate:
            back = _slope(packed.of_mean[member].expand_as(y), y, alpha)
            for weight in reversed(blocked.back[member]):
                back = _slope(_product(back, weight, None), layers.pop(), alpha)
            back_wide[:, part] = back
    return energies, _product(back_wide, blocked.first_back, None) if differentiate else None


def _chunk(packed: Packed, x: Tensor, differentiate: bool) -> tuple[Tensor, Tensor | None]:
    if len(x) >= ATOMS_BLOCKED and x.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        return _blocked_chunk(packed, x, differentiate)
    members, alpha = len(packed.last), packed.alpha
    wide = torch.celu_(torch.addmm(packed.first_bias, x, packed.first.t()), alpha)
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
    return energies, torch.mm(back.transpose(0, 1).reshape(len(x), -1), packed.first)


def _slope(gradient: Tensor, y: Tensor, alpha: float) -> Tensor:
    """`gradient` times the derivative of CELU where its value is `y`."""
    if y.dtype == torch.float32:
        # torch rounds this operation's constants to float32.
        return torch.ops.aten.elu_backward(gradient, alpha, 1.0, 1.0 / alpha, True, y)
    return gradient * (1.0 + y / alpha).clamp_(max=1.0)
