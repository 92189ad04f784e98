"""Batches of structures of like size, the same for a seed and an epoch whoever asks, and wherever one goes on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_TOGETHER = 64  # batches among which structures are put in order of size: like sizes, still mixed well


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
    """The batches of one epoch from number `start` on: places in the data, `batch` of them over all `ranks`.

    `sizes` (M,) are the numbers of atoms of all structures, `indices` those that take part. Every structure occurs
    once in an epoch; the batch number n of all ranks together is the same whatever their number. A rank's share of a
    last, incomplete batch may be empty.
    """
    for members in epoch_batches(sizes, indices, batch, seed, epoch)[start:]:
        yield members[rank::ranks]


def epoch_batches(sizes: np.ndarray, indices: np.ndarray, batch: int, seed: int, epoch: int) -> list[np.ndarray]:
    """All batches of an epoch, of all ranks together."""
    random = np.random.default_rng([seed, epoch, 21])
    shuffled = random.permutation(np.asarray(indices))
    found = []
    for start in range(0, len(shuffled), batch * _TOGETHER):
        part = shuffled[start : start + batch * _TOGETHER]
        part = part[np.argsort(sizes[part], kind="stable")]
        found += [part[first : first + batch] for first in range(0, len(part), batch)]
    return [found[place] for place in random.permutation(len(found))]


def number_of_batches(structures: int, batch: int) -> int:
    """In one epoch."""
    return -(-structures // batch)
