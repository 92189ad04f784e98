"""Blocked means of long series of arrays, in memory that grows with the logarithm of their length."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from fusion.wavefunctions.statistics import balanced

_LEVELS = 32


class RunningBlocks(nn.Module):
    """Sums of a series of arrays and of its blocks of 1, 2, 4, ... members, added one by one.

    The means and errors of `estimate` are those of `statistics.blocked` for every component of the series.
    All state is in persistent buffers.
    """

    number: Tensor
    first: Tensor
    sums: Tensor
    squares: Tensor
    pending: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("number", torch.zeros((), dtype=torch.int64))
        self.register_buffer("first", torch.zeros(shape, dtype=torch.float64))
        for name in ("sums", "squares", "pending"):
            self.register_buffer(name, torch.zeros((_LEVELS, *shape), dtype=torch.float64))

    def add(self, value: Tensor) -> None:
        """Add the next member of the series."""
        if not self.number:
            self.first.copy_(value)
        self.number += 1
        blocks = int(self.number)
        value = value - self.first  # so that squares of large means do not cancel
        for level in range(_LEVELS):
            self.sums[level] += value
            self.squares[level] += value**2
            if blocks % 2:
                self.pending[level] = value
                return
            value, blocks = (self.pending[level] + value) / 2, blocks // 2

    def estimate(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard error of every component; errors are nan with fewer than two members."""
        number = int(self.number)
        sums, squares = self.sums.cpu().numpy(), self.squares.cpu().numpy()
        mean = self.first.cpu().numpy() + sums[0] / max(number, 1)
        lengths = [2**level for level in range(_LEVELS) if number >> level >= 2]
        if not lengths:
            return mean, np.full_like(mean, np.nan)
        errors = []
        for level, length in enumerate(lengths):
            blocks = number // length
            variance = np.maximum(squares[level] - sums[level] ** 2 / blocks, 0.0) / (blocks - 1)
            errors.append(np.sqrt(variance / blocks))
        columns = np.stack(errors).reshape(len(lengths), -1).T
        stderr = np.array([balanced(column.tolist(), lengths, number) for column in columns])
        return mean, stderr.reshape(mean.shape)
