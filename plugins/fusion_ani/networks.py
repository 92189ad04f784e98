"""Networks of one element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from fusion.errors import InputError


class Networks(nn.Module):
    """All members' networks of one element in shared tensors: weights (M, out, in) and biases (M, out) by layer."""

    offset: Tensor | None
    """(M, in), added to the inputs; None if the architecture has no such offset."""

    def __init__(self, members: int, sizes: Sequence[int]) -> None:
        super().__init__()
        layers = list(pairwise(sizes))
        self.weights = nn.ParameterList(torch.empty(members, out, into) for into, out in layers)
        self.biases = nn.ParameterList(torch.zeros(members, out) for _, out in layers)
        self.register_parameter("offset", None)
        for weight in self.weights:
            nn.init.kaiming_normal_(weight.view(-1, weight.shape[-1]), nonlinearity="linear")

    def forward(self, x: Tensor, columns: Tensor, activate: Callable[[Tensor], Tensor]) -> Tensor:
        """Outputs (M, n) from environment vectors (n, F) with these `columns` (F); the last layer is linear."""
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            bias = bias[:, None]
            if layer == 0 and self.offset is not None:
                bias = bias + self.offset[:, None] @ weight.transpose(1, 2)
            if layer == 0:
                weight = weight[:, :, columns]
            x = x @ weight.transpose(1, 2) + bias
            x = activate(x) if layer < last else x
        return x[:, :, 0]


def check_layers(element: str, sizes: Any) -> None:
    """Raise InputError unless `sizes` are positive integers, one for each hidden layer."""
    valid = isinstance(sizes, Sequence) and all(isinstance(size, int) and size > 0 for size in sizes)
    if not valid or isinstance(sizes, str):
        problem = "there are none" if sizes is None else f"not {sizes!r}"
        setting = f"+method.model.hidden.{element}=[160,128,96]"
        raise InputError(f"ANI needs the sizes of the hidden layers for {element}, {setting}: {problem}")
