"""The networks of one element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class Networks(nn.Module):
    """The members' networks of one element, held together: weights (M, out, in) and biases (M, out) by layer."""

    offset: Tensor | None
    """(M, in), added to the inputs, where the architecture has it."""

    def __init__(self, members: int, sizes: Sequence[int]) -> None:
        super().__init__()
        layers = list(pairwise(sizes))
        self.weights = nn.ParameterList(torch.empty(members, out, into) for into, out in layers)
        self.biases = nn.ParameterList(torch.zeros(members, out) for _, out in layers)
        self.register_parameter("offset", None)
        for weight in self.weights:
            nn.init.kaiming_normal_(weight.view(-1, weight.shape[-1]), nonlinearity="linear")

    def forward(self, x: Tensor, columns: Tensor, activate: Callable[[Tensor], Tensor]) -> Tensor:
        """(M, n) from `columns` (F) of environment vectors (n, F); linear in the last layer."""
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
