"""Calibration of a model's spread: comparison with its errors, overall and in bins of the spread.

Levi et al., Sensors 22, 5540 (2022): the root mean square error of a calibrated regressor equals the root mean square
of its predicted standard deviations in every bin of similar standard deviation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fusion.evaluation.uncertainty import factor

_BINS = 10
_SMALLEST_BIN = 5  # structures


def calibration(spread: np.ndarray, errors: np.ndarray) -> dict[str, Any]:
    """Calibration statistics, for `result.json`, of standard deviations and errors (n,), both in kcal/mol.

    They hold the fractions of the errors within 1 and 2 standard deviations, the rank correlation of spread and error,
    and `bins` with equal numbers of structures. `scale` is the factor on the spread that brings 68.3 % of the errors
    within one standard deviation. Unlike a mean of squared ratios it does not depend on a few small spreads; with four
    members that mean has no finite variance.
    """
    usable = np.isfinite(spread) & np.isfinite(errors) & (spread > 0)
    spread, errors = spread[usable], errors[usable]
    if not len(spread):
        return {"structures": 0, "bins": [], "within_1": 0.0, "within_2": 0.0, "scale": 0.0, "rms_spread_kcal_mol": 0.0}
    return {
        "structures": len(spread),
        "rms_spread_kcal_mol": _rms(spread),
        "rmse_kcal_mol": _rms(errors),
        **within(spread, errors),
        "scale": factor(spread, errors),
        "rank_correlation": _rank_correlation(spread, np.abs(errors)),
        "bins": bins(spread, errors),
    }


def within(spread: np.ndarray, errors: np.ndarray) -> dict[str, float]:
    """Fractions of the errors within 1 and 2 standard deviations; every standard deviation must be positive."""
    ratio = np.abs(errors) / spread
    return {f"within_{number}": float(np.mean(ratio <= number)) for number in (1, 2)}


def bins(spread: np.ndarray, errors: np.ndarray) -> list[dict[str, float]]:
    """Root mean squares of spread and error in groups of equal size, ordered by the spread."""
    order = np.argsort(spread, kind="stable")
    number = min(_BINS, max(1, len(order) // _SMALLEST_BIN))
    return [
        {"structures": len(part), "spread_kcal_mol": _rms(spread[part]), "rmse_kcal_mol": _rms(errors[part])}
        for part in np.array_split(order, number)
    ]


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's rank correlation; None for fewer than three values, or where one of them does not vary."""
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    ranks = [np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (first, second)]
    return float(np.corrcoef(ranks[0].astype(float), ranks[1].astype(float))[0, 1])


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
