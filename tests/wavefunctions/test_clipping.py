"""Clipping of local energies: window, outliers, and values that are not finite."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fusion.wavefunctions.clipping import clip

pytestmark = pytest.mark.usefixtures("double_precision")


def test_energies_within_the_window_are_only_centred() -> None:
    energies = torch.randn(1001) - 3
    clipped = clip(energies, width=50.0)
    torch.testing.assert_close(clipped.deviation, energies - energies.mean())
    assert clipped.mean == pytest.approx(float(energies.mean()))
    assert clipped.clipped_mean == pytest.approx(float(energies.mean()))
    assert clipped.variance == pytest.approx(float(energies.var(unbiased=False)))


def test_outliers_are_limited_around_the_median() -> None:
    energies = torch.tensor([-1.0, 0.0, 1.0, 0.5, -0.5, 0.2, 94.8])
    deviation = (energies - 0.2).abs().mean()
    limited = energies.clone()
    limited[-1] = 0.2 + 2 * deviation
    clipped = clip(energies, width=2.0)
    torch.testing.assert_close(clipped.deviation, limited - limited.mean())
    assert clipped.clipped_mean == pytest.approx(float(limited.mean()))
    assert clipped.mean == pytest.approx(float(energies.mean()))  # what is reported is not clipped


def test_an_outlier_does_not_move_the_window() -> None:
    """A window around the mean would clip walkers on the side opposite to an outlier."""
    energies = torch.linspace(-1, 1, 101)
    energies[50] = 1e3
    below = clip(energies, width=5.0).deviation
    assert float(below[0] - below[10]) == pytest.approx(-0.2)
    assert float(below[90] - below[100]) == pytest.approx(-0.2)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_walkers_that_are_not_finite_do_not_count(bad: Any) -> None:
    energies = torch.randn(64)
    without = clip(energies[2:], width=3.0)
    energies[:2] = bad
    clipped = clip(energies, width=3.0)
    assert not clipped.deviation[:2].any()
    torch.testing.assert_close(clipped.deviation[2:], without.deviation)
    assert clipped.finite.tolist() == [False, False] + [True] * 62
    assert (clipped.mean, clipped.variance) == pytest.approx((without.mean, without.variance))


@pytest.mark.parametrize("width", [0.5, 5.0])
def test_deviations_have_no_mean(width: float) -> None:
    energies = torch.randn(500) ** 3
    assert float(clip(energies, width).deviation.mean()) == pytest.approx(0, abs=1e-12)


def test_no_finite_energy_at_all() -> None:
    clipped = clip(torch.full((4,), torch.nan), width=5.0)
    assert not clipped.deviation.any() and not clipped.finite.any()
