"""Means of blocks of a long series of arrays, in memory that does not grow with its length."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

BLOCKS = 64
"""Largest number of blocks, even; at least half as many give an error with a relative uncertainty of about 12 %."""


class BlockMeans(nn.Module):
    """Sums over successive blocks of a series of arrays of one shape, added one by one.

    The length of a block doubles whenever all blocks are full. `RunningBlocks` has errors of the components only; the
    blocks give those of any function of the array. All state is in persistent buffers.
    """

    number: Tensor
    sums: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("number", torch.zeros((), dtype=torch.int64))
        self.register_buffer("sums", torch.zeros((BLOCKS, *shape), dtype=torch.float64))

    def add(self, value: Tensor) -> None:
        """Add the next member of the series."""
        number, length = int(self.number), self.length
        if number == BLOCKS * length:
            self.sums[: BLOCKS // 2] = self.sums[::2] + self.sums[1::2]
            self.sums[BLOCKS // 2 :] = 0
            length *= 2
        self.sums[number // length] += value
        self.number += 1

    @property
    def length(self) -> int:
        """Number of members in a block, a power of two."""
        length = 1
        while BLOCKS * length < int(self.number):
            length *= 2
        return length

    def mean(self) -> np.ndarray:
        """Mean of the whole series, which must not be empty."""
        return np.asarray(self.sums.sum(0).cpu().numpy() / int(self.number))

    def series(self) -> np.ndarray:
        """Means of the complete blocks, (T, ...)."""
        complete = int(self.number) // self.length
        return np.asarray(self.sums[:complete].cpu().numpy() / self.length)
