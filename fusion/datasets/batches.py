"""Batches of structures of similar size, determined by seed and epoch only, also on several ranks and on resuming."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_TOGETHER = 64  # batches sorted by size together: similar sizes in a batch, but still well mixed


def batches(
    sizes: np.ndarray,
    indices: np.ndarray,
    batch: int,
    seed: int,
    epoch: int,
    rank: int = 0,
    ranks: int = 1,
    start: int = 0,
) -> Iterator[np.ndarray]:
    """Yield this rank's part of the batches of one epoch, from batch number `start` on, as indices into the data.

    `sizes` (M,) are the numbers of atoms of all structures, `indices` the structures that take part, `batch` the
    number of structures over all `ranks`. Every structure occurs once in an epoch. Batch n of all ranks together does
    not depend on the number of ranks. A rank's part of the last, incomplete batch may be empty.
    """
    for members in epoch_batches(sizes, indices, batch, seed, epoch)[start:]:
        yield members[rank::ranks]


def epoch_batches(sizes: np.ndarray, indices: np.ndarray, batch: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return all batches of an epoch, for all ranks together."""
    random = np.random.default_rng([seed, epoch, 21])
    shuffled = random.permutation(np.asarray(indices))
    all_batches = []
    for start in range(0, len(shuffled), batch * _TOGETHER):
        part = shuffled[start : start + batch * _TOGETHER]
        part = part[np.argsort(sizes[part], kind="stable")]
        all_batches += [part[first : first + batch] for first in range(0, len(part), batch)]
    return [all_batches[place] for place in random.permutation(len(all_batches))]


def number_of_batches(structures: int, batch: int) -> int:
    """Number of batches in one epoch."""
    return -(-structures // batch)
