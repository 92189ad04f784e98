"""Error bars of correlated series."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusion.wavefunctions.running_blocks import RunningBlocks
from fusion.wavefunctions.statistics import Estimate, blocked, drift


def correlated(rho: float, n: int, seed: int) -> np.ndarray:
    """x_t = rho x_(t-1) + noise, stationary with unit variance."""
    noise = np.random.default_rng(seed).normal(size=n + 200) * (1 - rho * rho) ** 0.5
    x = np.zeros(n + 200)
    for t in range(1, len(x)):
        x[t] = rho * x[t - 1] + noise[t]
    return x[200:]


def exact_error(rho: float, n: int) -> float:
    """Standard error of the mean of `correlated`."""
    lags = np.arange(1, n)
    return float(np.sqrt((1 + 2 * np.sum((1 - lags / n) * rho**lags)) / n))


@pytest.mark.parametrize(
    ("rho", "n"), [(0.0, 1000), (0.0, 2049), (0.5, 1000), (0.9, 4000), (0.95, 10000), (-0.5, 1000)]
)
def test_quoted_errors_are_right(rho: float, n: int) -> None:
    quoted = [blocked(correlated(rho, n, seed)).stderr for seed in range(60)]
    assert np.sqrt(np.mean(np.square(quoted))) == pytest.approx(exact_error(rho, n), rel=0.12)
    assert np.std(quoted) < 0.4 * np.mean(quoted)


@pytest.mark.parametrize(("rho", "n", "largest"), [(0.0, 20, 1.2), (0.9, 600, 1.25), (0.98, 3500, 1.25)])
def test_few_blocks_do_not_make_errors_too_small(rho: float, n: int, largest: float) -> None:
    """Ratios of deviation and error: 1 on average, and none is large because two blocks happened to agree."""
    estimates = [blocked(correlated(rho, n, seed)) for seed in range(120)]
    ratios = np.array([e.value / e.stderr for e in estimates])
    assert 0.7 < np.sqrt(np.mean(ratios**2)) < largest and np.abs(ratios).max() < 5


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_replicas_scatter_as_their_errors_say(rho: float) -> None:
    estimates = [blocked(correlated(rho, 4000, 1000 + seed)) for seed in range(20)]
    scatter = np.std([e.value for e in estimates], ddof=1)
    assert 0.67 < scatter / np.mean([e.stderr for e in estimates]) < 1.5


def test_naive_error_would_be_too_small() -> None:
    series = correlated(0.9, 4000, 0)
    assert blocked(series).stderr > 3 * series.std() / len(series) ** 0.5


def test_special_series() -> None:
    assert blocked(np.full(100, -1.5)) == Estimate(-1.5, 0.0)
    assert blocked(np.array([2.0, 4.0])) == pytest.approx((3.0, 1.0))
    for short in (np.array([]), np.array([1.0])):
        assert np.isnan(blocked(short).stderr)


def test_drift_of_a_stationary_series_is_within_its_error() -> None:
    estimates = [drift(correlated(0.8, 4000, seed)) for seed in range(40)]
    sigmas = np.array([e.value / e.stderr for e in estimates])
    assert np.abs(sigmas).max() < 4
    assert 0.7 < np.sqrt(np.mean(sigmas**2)) < 1.4


def test_drift_is_detected() -> None:
    series = correlated(0.5, 2000, 0) + np.linspace(0, 1, 2000)
    change = drift(series)
    assert change.value == pytest.approx(0.5, abs=4 * change.stderr)
    assert change.value > 4 * change.stderr


def test_distance_in_standard_errors() -> None:
    assert Estimate(1.0, 0.3).sigmas_from(Estimate(2.0, 0.4)) == pytest.approx(2.0)
    assert Estimate(1.0, 0.0).sigmas_from(Estimate(1.0, 0.0)) == 0


@pytest.mark.parametrize("n", [1, 2, 3, 64, 100, 1025])
def test_running_blocks_have_the_errors_of_the_whole_series(n: int) -> None:
    series = 1e6 + np.stack([correlated(rho, n, 0) for rho in (0.0, 0.9)] + [np.full(n, 0.3)], axis=1)
    running = RunningBlocks(3)
    for value in series:
        running.add(torch.tensor(value))
    mean, stderr = running.estimate()
    expected = [blocked(column) for column in series.T]
    np.testing.assert_allclose(mean, [e.value for e in expected], rtol=1e-13)
    np.testing.assert_allclose(stderr, [e.stderr for e in expected], rtol=1e-9, atol=1e-9)


def test_running_blocks_without_a_member_are_zero() -> None:
    mean, stderr = RunningBlocks(2).estimate()
    assert not mean.any() and np.isnan(stderr).all()
