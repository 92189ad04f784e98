"""Verdict of a training: better than the mean of its data, or not."""

import numpy as np
import pytest
import torch
from structures import labelled

from fusion.chemistry.units import KCAL_MOL_PER_HARTREE
from fusion.potentials.training import baseline
from fusion.potentials.training.targets import Labels


@pytest.mark.parametrize(("share", "learned"), [(0.1, True), (0.95, False), (40_000.0, False)])
def test_an_error_is_compared_with_that_of_a_constant_per_element(share: float, learned: bool) -> None:
    data = labelled(12)
    energy = np.where(np.arange(len(data)) // 2 % 2 == 0, 1.0, -1.0) / KCAL_MOL_PER_HARTREE
    labels = Labels(data, energy[: len(data)], torch.float64)
    train, test = np.arange(0, len(data) - 2), np.arange(len(data) - 2, len(data))
    of_mean = baseline.compared(labels, np.asarray(data.numbers), train, test, 1.0)["mean_mae_kcal_mol"]
    document = baseline.compared(labels, np.asarray(data.numbers), train, test, share * of_mean)
    assert document["learned"] is learned and of_mean == pytest.approx(1.0, abs=0.5)
    (line,) = baseline.lines(document)
    assert line[0] == "verdict" and line[1].startswith("learned" if learned else "NOT LEARNED")
