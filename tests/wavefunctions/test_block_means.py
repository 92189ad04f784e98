"""Block means of long series."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusion.wavefunctions.block_means import BLOCKS, BlockMeans


def filled(series: np.ndarray) -> BlockMeans:
    blocks = BlockMeans(*series.shape[1:])
    for member in series:
        blocks.add(torch.tensor(member))
    return blocks


@pytest.mark.parametrize(
    ("number", "length"), [(1, 1), (BLOCKS, 1), (BLOCKS + 1, 2), (2 * BLOCKS, 2), (5 * BLOCKS + 3, 8)]
)
def test_blocks_are_means_of_successive_members(number: int, length: int) -> None:
    series = np.random.default_rng(0).normal(size=(number, 2, 3))
    blocks, complete = filled(series), number // length
    assert blocks.length == length
    np.testing.assert_allclose(blocks.mean(), series.mean(0), atol=1e-12)
    expected = series[: complete * length].reshape(complete, length, 2, 3).mean(1)
    np.testing.assert_allclose(blocks.series(), expected, atol=1e-12)


def test_stored_blocks_are_continued() -> None:
    series = np.random.default_rng(0).normal(size=(BLOCKS + 9, 2))
    resumed = BlockMeans(2)
    resumed.load_state_dict(filled(series[: BLOCKS + 1]).state_dict())
    for member in series[BLOCKS + 1 :]:
        resumed.add(torch.tensor(member))
    np.testing.assert_array_equal(resumed.series(), filled(series).series())
