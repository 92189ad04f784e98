"""`calibration.png`: errors of a model against the errors predicted by its spread."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from fusion.chemistry import units
from fusion.evaluation.calibration import bins
from fusion.evaluation.tables import STRUCTURES
from fusion.evaluation.uncertainty import factor
from fusion.plotting import BLUE, GREY, ORANGE, picture, title
from fusion.runs.results import read_result

_FEWEST = 20
_SIGMAS = np.linspace(0.0, 4.0, 81)


def draw(directory: Path) -> Path | None:
    """Draw `calibration.png` from structures.csv of an evaluation or a training; None if too few structures have a
    spread and an error. After a training only structures count that neither it nor its calibration used."""
    if not (directory / STRUCTURES).is_file():
        return None
    spread, error = _read(directory / STRUCTURES)
    if len(spread) < _FEWEST:
        return None
    result = read_result(directory) or {}
    evaluation = result.get("evaluation") or {}
    calibrated = evaluation.get("calibration") or (result.get("training") or {}).get("uncertainty") or {}
    with picture(directory / "calibration.png", (8.0, 4.0)) as figure:
        name = title(result | {"system": None}, directory)
        figure.suptitle(
            f"{name} · {evaluation.get('data') or directory.resolve().name}", x=0.02, ha="left", fontsize=11
        )
        left, right = figure.subplots(1, 2)
        _draw_bins(left, spread, error)
        _draw_fractions(right, np.abs(error) / spread, calibrated.get("factor"))
    return directory / "calibration.png"


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations and errors in kcal/mol."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("part", "test") in ("test", "unseen")]
    spread, error = (np.array([value(row) for row in rows], dtype=float) for value in (_spread, _error))
    usable = np.isfinite(error) & (spread > 0)
    return spread[usable] * units.KCAL_MOL_PER_HARTREE, error[usable] * units.KCAL_MOL_PER_HARTREE


def _spread(row: dict[str, str]) -> float:
    return float(row["energy_std_hartree"] or "nan")


def _error(row: dict[str, str]) -> float:
    """Error of the energy: the corrected one if the table has it, else prediction minus label."""
    if "error_counted_hartree" in row:
        return float(row["error_counted_hartree"] or "nan")
    return float(row["energy_hartree"] or "nan") - float(row["label_hartree"] or "nan")


def _draw_bins(axes: Any, spread: np.ndarray, error: np.ndarray) -> None:
    """Draw each structure, and root mean squares in bins of similar spread; a calibrated model lies on the diagonal."""
    axes.scatter(spread, np.abs(error), s=6, lw=0, alpha=0.35, color=GREY, label="structures", rasterized=True)
    parts = bins(spread, error)
    x, y = (np.array([part[key] for part in parts]) for key in ("spread_kcal_mol", "rmse_kcal_mol"))
    axes.plot(x, y, "o-", color=BLUE, lw=1.2, ms=5, label="root mean square of bins")
    positive = np.abs(error)[np.abs(error) > 0]
    low = min(spread.min(), np.percentile(positive, 5) if len(positive) else spread.min())
    ends = np.array([low, max(spread.max(), y.max(), np.abs(error).max())])
    axes.plot(ends, ends, color="black", lw=0.8, ls="--", label="calibrated", zorder=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(0.7 * ends[0], 1.4 * ends[1])
    axes.set_xlabel("spread of the model / kcal mol$^{-1}$")
    axes.set_ylabel("size of the error / kcal mol$^{-1}$")
    axes.legend(loc="best")


def _draw_fractions(axes: Any, ratio: np.ndarray, calibrated: float | None) -> None:
    """Draw the share of errors within a number of standard deviations, with that of the normal distribution.

    A model with a `calibrated` factor is drawn with and without it; another one as stated and with the factor that
    would calibrate it.
    """
    from scipy.special import erf

    if calibrated is None:
        scale = factor(np.ones(len(ratio)), ratio)
        curves = ((ratio, BLUE, "as stated"), (ratio / scale, ORANGE, f"spread × {_short(scale)}"))
    else:
        curves = ((ratio * calibrated, ORANGE, "members"), (ratio, BLUE, f"calibrated, × {_short(calibrated)}"))
    for values, colour, label in curves:
        within = [float(np.mean(values <= sigma)) for sigma in _SIGMAS]
        axes.plot(_SIGMAS, np.array(within) * 100.0, color=colour, lw=1.5, label=label)
    axes.plot(_SIGMAS, erf(_SIGMAS / np.sqrt(2.0)) * 100.0, color="black", lw=0.8, ls="--", label="normal distribution")
    axes.set_ylim(0.0, 102.0)
    axes.set_xlabel("standard deviations")
    axes.set_ylabel("errors within / %")
    within_one, within_two = (100.0 * np.mean(ratio <= sigma) for sigma in (1.0, 2.0))
    axes.set_title(f"{within_one:.0f} % within 1, {within_two:.0f} % within 2", fontsize=9)
    axes.legend(loc="best")


def _short(factor: float) -> str:
    """A factor to two digits, without an exponent above one: `0.31`, `1.8`, `140`."""
    return f"{float(f'{factor:.2g}'):g}"
