"""The score matrix O of all walkers, recorded in groups of walkers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor

from fusion.parallel.collectives import gather_rows, sum_over_ranks, world_size
from fusion.wavefunctions.scores.layers import Block, Step

_KEPT = 2  # groups in memory: the Gram matrix needs pairs of them


class Scores:
    """Score matrix of the walkers of all ranks at the present parameters.

    This rank's walkers are divided into groups of (nearly) equal size. The blocks of the two groups used last are kept,
    all others are recorded again when they are needed, so that the memory is that of two groups. The Gram matrix of n
    groups takes n + (n - 1)(n - 2) / 2 recordings of a group. The sums agree for any number of groups but for rounding.

    Args:
        record: computes the blocks of walkers (b, N, 3), which cover every parameter once.
        electrons: walkers of this rank, (B, N, 3).
        groups: number of groups, the same on all ranks.
    """

    def __init__(self, record: Callable[[Tensor], list[Block]], electrons: Tensor, groups: int) -> None:
        self._record = record
        self._groups = electrons.split(-(-len(electrons) // groups))
        ends = list(accumulate(map(len, self._groups)))
        self._rows = [slice(end - len(group), end) for end, group in zip(ends, self._groups, strict=True)]
        self._kept: dict[int, list[Block]] = {}

    def __len__(self) -> int:
        """Number of groups."""
        return len(self._groups)

    def blocks(self, group: int = 0) -> list[Block]:
        """Blocks of one group."""
        blocks = self._kept.pop(group, None)
        if blocks is None:
            while len(self._kept) >= _KEPT:  # the group used last is the last of the dictionary
                del self._kept[next(iter(self._kept))]
            blocks = self._record(self._groups[group])
        self._kept[group] = blocks
        return blocks

    def in_turn(self) -> Iterator[tuple[slice, list[Block]]]:
        """Yield this rank's rows of each group and its blocks, of which none are kept."""
        for rows, group in zip(self._rows, self._groups, strict=True):
            yield rows, self._record(group)

    def gram(self) -> Tensor:
        """O O^T over the walkers of all ranks, (B, B), float64."""
        ranks, walkers, like = world_size(), self._rows[-1].stop, self._groups[0]
        total = torch.empty(ranks, walkers, ranks, walkers, dtype=torch.float64, device=like.device)
        for first, second in self._pairs():
            rows, columns = self._rows[first], self._rows[second]
            shape = (ranks, len(self._groups[first]), ranks, len(self._groups[second]))
            part = gather_rows(self._product(first, second)).view(shape)
            total[:, rows, :, columns] = part
            if first != second:
                total[:, columns, :, rows] = part.permute(2, 3, 0, 1)
        return total.view(ranks * walkers, ranks * walkers)

    def transpose_apply(self, u: Tensor) -> Step:
        """O^T u over the walkers of all ranks; u (B_rank,) belongs to those of this rank."""
        step: Step = {}
        for group, rows in enumerate(self._rows):
            for block in self.blocks(group):
                for name, value in block.transpose_apply(u[rows]).items():
                    step[name] = step[name] + value if name in step else value
        return {name: sum_over_ranks(value) for name, value in step.items()}

    def apply(self, step: Step) -> Tensor:
        """O v for the walkers of all ranks, (B,)."""
        # Backwards: the Gram matrix leaves the last groups in memory, and `transpose_apply` begins with the first ones.
        parts = [self._apply(group, step) for group in reversed(range(len(self)))]
        return gather_rows(torch.cat(parts[::-1]))

    def _apply(self, group: int, step: Step) -> Tensor:
        first, *others = self.blocks(group)
        total = first.apply(step)
        for block in others:
            total = total + block.apply(step)
        return total

    def _pairs(self) -> Iterator[tuple[int, int]]:
        """Yield every pair of groups once; the last one of a row is kept for the next row."""
        for first in range(len(self)):
            yield first, first
            yield from ((first, second) for second in range(len(self) - 1, first, -1))

    def _product(self, first: int, second: int) -> Tensor:
        """Rows of O O^T of a group on this rank, columns of another group on all ranks."""
        pairs = list(zip(self.blocks(first), self.blocks(second), strict=True))
        total = pairs[0][0].gram(cast(Any, pairs[0][1]))
        for block, other in pairs[1:]:
            total = total + block.gram(cast(Any, other))
        return total
