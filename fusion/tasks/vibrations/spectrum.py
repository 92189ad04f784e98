"""Spectra with lines of finite width, and `spectrum.csv`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fusion.files.atomic import write_atomically

CSV = "spectrum.csv"
SERIES = {
    "ir_intensities_km_per_mol": "infrared_km_per_mol_per_cm1",
    "raman_cross_sections_cm2_per_sr": "raman_cm2_per_sr_per_cm1",
}
"""Keys of intensities in `result.json`, and the columns of their broadened spectra."""

_MARGIN = 300.0  # cm^-1 shown above the highest line
_POINTS_PER_HALF_WIDTH = 10


def broadened(places: np.ndarray, wavenumbers: np.ndarray, strengths: np.ndarray, half_width: float) -> np.ndarray:
    """Spectrum (P,) at the wavenumbers `places` (P,), cm^-1, in the unit of `strengths` per cm^-1.

    The lines are Lorentzians of area `strengths` and half width at half maximum `half_width`, cm^-1.
    """
    shapes = half_width / np.pi / ((places[:, None] - wavenumbers) ** 2 + half_width**2)
    return np.asarray(shapes @ strengths)


def lines(document: dict[str, Any], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Scaled wavenumbers (n,), cm^-1, and intensities (n,) of the real modes that have an intensity."""
    strengths = np.array(document.get(key) or [], dtype=float)
    wavenumbers = np.array(document.get("frequencies_cm1") or [], dtype=float)[: len(strengths)]
    drawable = (wavenumbers > 0) & np.isfinite(strengths)
    return wavenumbers[drawable] * float((document.get("spectrum") or {}).get("scale", 1.0)), strengths[drawable]


def axis(document: dict[str, Any], half_width: float) -> np.ndarray:
    """Wavenumbers (P,), cm^-1, from the lower to the upper end of the spectrum."""
    spectrum = document.get("spectrum") or {}
    highest = max(document.get("frequencies_cm1") or [0.0]) * float(spectrum.get("scale", 1.0))
    low, high = spectrum.get("range_cm1") or (0.0, np.ceil((highest + _MARGIN) / 100.0) * 100.0)
    return np.linspace(low, high, round((high - low) / min(1.0, half_width / _POINTS_PER_HALF_WIDTH)) + 1)


def write(path: Path, document: dict[str, Any]) -> None:
    """Write `spectrum.csv`: the broadened infrared and Raman spectra, as far as there are intensities."""
    half_width = float(document["spectrum"]["half_width_cm1"])
    places = axis(document, half_width)
    columns = {"wavenumber_cm1": places}
    for key, column in SERIES.items():
        if document.get(key):
            columns[column] = broadened(places, *lines(document, key), half_width)
    rows = [
        ",".join(columns),
        *(",".join(f"{value:.6g}" for value in row) for row in np.stack(list(columns.values()), axis=1)),
    ]
    write_atomically(path, "\n".join(rows) + "\n")
