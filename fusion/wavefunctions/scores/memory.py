"""Memory that scores and Gram matrices need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fusion.wavefunctions.scores.layers import Block, size

SHARE = 0.8
"""Share of the free memory that scores may fill, together with all else that is needed."""

_GRAM_COPIES = 6  # Gram matrix with its copies in float64 while the damped system is solved, at most


def gram_memory(walkers: int) -> int:
    """Bytes needed to form the Gram matrix of all walkers and to solve with it."""
    return _GRAM_COPIES * 8 * walkers**2


@dataclass(frozen=True)
class ScoreMemory:
    """Memory of recorded scores.

    Args:
        total: bytes of the scores of one walker.
        largest: bytes of them in the largest layer, which is copied while it is recorded or gathered from all ranks.
        chunk: walkers differentiated at a time, and the fewest in a group.
        pairs: True if pairs of groups are in memory together, as a Gram matrix needs them.
    """

    total: int
    largest: int
    chunk: int
    pairs: bool

    @classmethod
    def measured(cls, blocks: Sequence[Block], chunk: int, pairs: bool) -> ScoreMemory:
        """Memory of scores like ``blocks``, those of one walker."""
        sizes = [size(block) for block in blocks]
        return cls(sum(sizes), max(sizes, default=0), chunk, pairs)

    def needed(self, walkers: int, groups: int, ranks: int) -> int:
        """Bytes for the walkers of one of ``ranks`` processes in a number of groups."""
        group = -(-walkers // groups)
        kept = min(groups, 2) if self.pairs else 1
        copies = 1 + (2 * ranks if ranks > 1 and self.pairs else 0)
        differentiated = 2 * self.total * min(self.chunk, group)
        return group * (kept * self.total + copies * self.largest) + differentiated

    def most_groups(self, walkers: int) -> int:
        """Number of groups that need the least memory."""
        return -(-walkers // min(self.chunk, walkers))

    def groups(self, walkers: int, ranks: int, free: float) -> int:
        """Smallest number of groups that needs no more than ``free`` bytes; ``most_groups`` if none does."""
        most = self.most_groups(walkers)
        return next((n for n in range(1, most) if self.needed(walkers, n, ranks) <= free), most)


def recordings(groups: int, pairs: bool) -> float:
    """Number of times that the scores of every walker are recorded in one step."""
    if groups <= 2 or not pairs:
        return 1.0
    of_gram = groups + (groups - 1) * (groups - 2) / 2
    return (of_gram + 2 * (groups - 2)) / groups
