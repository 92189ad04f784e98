"""Factor and limit of an ensemble's spread: their values for random members, and their coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from fusion.evaluation.uncertainty import FEWEST, ONE_SIGMA, calibrated, calibrated_forces


def drawn(number: int, members: int, wrong: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random standard deviations of members, errors `wrong` times as large, and numbers of atoms."""
    random = np.random.default_rng(seed)
    atoms = random.integers(3, 30, number)
    sigma = np.sqrt(atoms) * np.exp(0.5 * random.normal(size=number))
    spread = (sigma * random.normal(size=(members, number))).std(axis=0, ddof=1)
    return spread, wrong * sigma * random.normal(size=number), atoms


@pytest.mark.parametrize("members", [3, 4, 8])
@pytest.mark.parametrize("wrong", [0.5, 1.0, 3.0])
def test_factor_of_normal_members_is_students(members: int, wrong: float) -> None:
    """The ratio of a normal error to the deviation of M normal members is Student's t with M - 1 degrees of freedom."""
    fitted = calibrated(*drawn(8000, members, wrong))
    assert fitted is not None
    expected = wrong * t.ppf(0.5 + 0.5 * ONE_SIGMA, members - 1)
    assert fitted.factor == pytest.approx(expected, rel=0.05) and fitted.low < fitted.factor < fitted.high
    std, errors, _ = drawn(8000, members, wrong, seed=1)
    assert np.mean(np.abs(errors) <= fitted.factor * std) == pytest.approx(ONE_SIGMA, abs=0.02)


@pytest.mark.parametrize("number", [FEWEST, 50])
def test_few_structures_keep_the_coverage(number: int) -> None:
    """On average over held-out sets 68.3 % of the errors are within, and one in n + 1 structures is outside."""
    within, beyond, inside = [], [], []
    fresh, errors, atoms = drawn(2000, 4, 2.0, seed=9)
    for seed in range(400):
        fitted = calibrated(*drawn(number, 4, 2.0, seed=100 + seed))
        assert fitted is not None and fitted.structures == number and fitted.beyond == pytest.approx(1 / (number + 1))
        within.append(np.mean(np.abs(errors) <= fitted.factor * fresh))
        beyond.append(np.mean(fitted.factor * fresh / np.sqrt(atoms) > fitted.limit))
        inside.append(fitted.low <= 2.0 * t.ppf(0.5 + 0.5 * ONE_SIGMA, 3) <= fitted.high)
    assert ONE_SIGMA - 0.01 < np.mean(within) < ONE_SIGMA + 1 / (number + 1) + 0.01
    assert np.mean(beyond) == pytest.approx(1 / (number + 1), rel=0.25)
    assert 0.55 < np.mean(inside) < 0.8


def test_one_in_a_thousand_of_many_structures_is_outside() -> None:
    std, errors, atoms = drawn(20_000, 4, 1.0)
    fitted = calibrated(std, errors, atoms)
    assert fitted is not None and fitted.beyond == pytest.approx(1e-3, rel=0.01)
    assert np.mean(fitted.factor * std / np.sqrt(atoms) > fitted.limit) == pytest.approx(1e-3, rel=0.1)


def test_structures_without_label_or_spread_do_not_count() -> None:
    std, errors, atoms = drawn(FEWEST + 2, 4, 1.0)
    std[3], errors[5] = 0.0, np.nan
    fitted = calibrated(std, errors, atoms)
    assert fitted is not None and fitted.structures == FEWEST and np.isfinite(fitted.factor)
    std[7] = np.nan
    assert calibrated(std, errors, atoms) is None


def components(structures: int, seed: int, shared: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Deviations of four members on ten atoms a structure, errors twice as large, and the structure of each atom.

    `shared`: correlation of the sizes of errors within a structure.
    """
    random = np.random.default_rng(seed)
    shape = (10 * structures, 3)
    size = np.exp(shared * np.repeat(random.normal(size=structures), 10))[:, None]
    spread = random.normal(size=(4, *shape)).std(axis=0, ddof=1)
    return spread, 2.0 * size * random.normal(size=shape), np.repeat(np.arange(structures), 10)


def test_factor_of_forces() -> None:
    fitted = calibrated_forces(*components(1000, 0, 0.0))
    assert fitted is not None and (fitted.structures, fitted.components) == (1000, 30_000)
    assert fitted.factor == pytest.approx(2.0 * t.ppf(0.5 + 0.5 * ONE_SIGMA, 3), rel=0.02)
    assert fitted.low < fitted.factor < fitted.high
    assert calibrated_forces(*components(FEWEST - 1, 0, 0.0)) is None


@pytest.mark.parametrize("shared", [0.0, 0.7])
def test_the_range_covers_factors_of_other_structures(shared: float) -> None:
    """The range also holds if errors of one structure are correlated, and so carry less information."""
    expected = calibrated_forces(*components(20_000, 1, shared))
    draws = [calibrated_forces(*components(40, 100 + seed, shared)) for seed in range(200)]
    assert expected is not None
    inside = [one is not None and one.low <= expected.factor <= one.high for one in draws]
    assert 0.58 < np.mean(inside) < 0.78


def test_forces_without_labels_do_not_count() -> None:
    std, errors, owner = components(FEWEST + 1, 0, 0.0)
    errors[owner == 3] = np.nan
    std[0, 0] = 0.0
    fitted = calibrated_forces(std, errors, owner)
    assert fitted is not None and fitted.structures == FEWEST and fitted.components == 30 * FEWEST - 1
