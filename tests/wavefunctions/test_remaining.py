"""Estimates of the remaining error, and phases that end once their error is small enough."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.wavefunctions.remaining import SHORTEST, is_within, remaining
from fusion.wavefunctions.schedule import FIRST_ESTIMATE, Schedule, evaluation_steps
from fusion.wavefunctions.statistics import Estimate, blocked

STEPS = 2000


def optimisation(exponent: float, slope: float, noise: float = 1e-4) -> tuple[np.ndarray, np.ndarray]:
    """Energies with the excess 0.05 (t/100)^-p over -1 hartree plus `noise`, and variances excess / slope."""
    excess = 0.05 * (np.arange(1, STEPS + 1) / 100) ** -exponent
    rng = np.random.default_rng(1)
    return -1 + excess + noise * rng.standard_normal(STEPS), excess / slope


@pytest.mark.parametrize("exponent", [0.7, 1.0, 1.3])
def test_more_steps_gain_at_most_the_stated_error(exponent: float) -> None:
    energies, variances = optimisation(exponent, 0.1)
    excess = 0.05 * (STEPS / 100) ** -exponent
    final = Estimate(-1 + excess, 1e-5)
    assert 0.9 * excess < remaining(energies, variances, final, excess / 0.1).by_steps.value < 3.5 * excess


def test_energy_and_variance_of_a_line_extrapolate_to_the_eigenstate() -> None:
    energies, variances = optimisation(1.0, 0.1)
    found = remaining(energies, variances, Estimate(-0.9975, 1e-5), 0.025)
    assert found.extrapolated is not None and found.by_variance is not None
    assert abs(found.extrapolated.value + 1) < 4 * found.extrapolated.stderr < 1e-3
    assert found.by_variance.value == pytest.approx(0.0025, abs=2e-4)


def test_a_network_that_has_stopped_to_improve_is_betrayed_by_its_variance() -> None:
    energies, variances = optimisation(1.0, 0.1)
    stalled = np.full(STEPS, 0.01)
    energies = np.concatenate((energies, -0.99 + np.zeros(STEPS) + 1e-4 * np.random.default_rng(2).normal(size=STEPS)))
    variances = np.concatenate((variances, stalled / 0.1))
    found = remaining(energies, variances, Estimate(-0.99, 1e-5), 0.1)
    assert found.by_steps.value < 0.001 and found.error > 0.009


def test_a_variance_that_hardly_falls_is_an_error_of_the_usual_size() -> None:
    energies = -76.423 + 1e-4 * np.random.default_rng(4).standard_normal(STEPS)  # water, 15 mHa too high
    found = remaining(energies, np.full(STEPS, 0.36), Estimate(-76.423, 1e-4), 0.36)
    assert found.extrapolated is None and found.by_steps.value < 0.001 and 0.015 < found.error < 0.03


def test_without_variances_only_the_steps_count() -> None:
    energies, _ = optimisation(1.0, 0.1)
    assert remaining(energies, [], Estimate(-0.9975, 1e-5), 0.025).by_variance is None


def test_a_short_optimisation_has_no_estimate() -> None:
    with pytest.raises(ValueError, match="too few"):
        remaining([-1.0] * (SHORTEST - 1), [0.1] * (SHORTEST - 1), Estimate(-1.0, 0.1), 0.1)


def test_an_optimisation_is_within_a_limit_only_above_its_remaining_error() -> None:
    energies, variances = optimisation(1.0, 0.1)
    assert is_within(energies, variances, 0.02) and not is_within(energies, variances, 0.002)


def schedule(stderr: float, most: int = 100_000) -> Schedule:
    return Schedule(256, 8, 0, 1e-3, 10, 10, 10, 5.0, most, 10, evaluation_stderr=stderr)


def test_an_evaluation_ends_once_its_error_is_small_enough() -> None:
    energies = list(1e-3 * np.random.default_rng(3).standard_normal(100_000))
    steps = evaluation_steps(energies, schedule(1e-5))
    assert 8000 < steps < 13_000 and blocked(np.array(energies[:steps])).stderr <= 1e-5


def test_the_length_of_an_evaluation_is_not_known_before_its_first_estimate() -> None:
    assert evaluation_steps([0.0] * (FIRST_ESTIMATE - 1), schedule(1e-5)) == FIRST_ESTIMATE


def test_an_evaluation_whose_energy_is_not_finite_ends_at_its_first_estimate() -> None:
    assert evaluation_steps([np.nan] * FIRST_ESTIMATE, schedule(1e-5)) == FIRST_ESTIMATE


def test_an_evaluation_ends_at_its_largest_number_of_steps() -> None:
    energies = list(np.random.default_rng(4).standard_normal(300))
    assert evaluation_steps(energies, schedule(1e-5, most=300)) == 300
