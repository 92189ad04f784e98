"""Whether a model's spread is the size of its error: by bins of the spread, and in all.

Levi et al., Sensors 22, 5540 (2022): a calibrated regressor's root mean square error in a bin of like predicted
standard deviation is their root mean square.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fusion.tasks.labelled.uncertainty import factor

_BINS = 10
_FEWEST = 5  # structures in a bin


def calibration(spread: np.ndarray, errors: np.ndarray) -> dict[str, Any]:
    """Of standard deviations and errors (n,) in one unit, kcal/mol: fractions of the errors within 1 and 2 standard
    deviations, `scale`, the factor on the spread that brings 68.3 % of the errors within one (it is not at the mercy of
    a few small spreads, as a mean of squared ratios is: with four members that has no finite variance), rank
    correlation of their sizes, and `bins` of equal numbers with the root mean squares of both."""
    known = np.isfinite(spread) & np.isfinite(errors) & (spread > 0)
    spread, errors = spread[known], errors[known]
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
    """Fractions of the errors within 1 and 2 standard deviations, all of them positive."""
    ratio = np.abs(errors) / spread
    return {f"within_{number}": float(np.mean(ratio <= number)) for number in (1, 2)}


def bins(spread: np.ndarray, errors: np.ndarray) -> list[dict[str, float]]:
    """Groups of equal size in the order of the spread: its root mean square and that of the errors."""
    order = np.argsort(spread, kind="stable")
    number = min(_BINS, max(1, len(order) // _FEWEST))
    return [
        {"structures": len(part), "spread_kcal_mol": _rms(spread[part]), "rmse_kcal_mol": _rms(errors[part])}
        for part in np.array_split(order, number)
    ]


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's; None for fewer than three, or without any variation."""
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    ranks = [np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (first, second)]
    return float(np.corrcoef(ranks[0].astype(float), ranks[1].astype(float))[0, 1])


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
