"""`infrared.png`: the infrared spectrum of a vibrational analysis, lines and the same broadened."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fusion.plots.style import BLUE, ORANGE, picture, title
from fusion.results import read_result

_HALF_WIDTH = 10.0  # cm^-1


def draw(directory: Path, path: Path) -> None:
    """Draw from `result.json`; nothing where it holds no intensities, nor lines of imaginary modes."""
    result = read_result(directory) or {}
    strengths = np.array(result.get("ir_intensities_km_per_mol") or [])
    frequencies = np.array(result.get("frequencies_cm1") or [])
    real = frequencies > 0
    if len(strengths) == 0 or not real.any():
        return
    frequencies, strengths = frequencies[real], strengths[real]
    axis = np.linspace(0.0, frequencies.max() + 300.0, 4000)
    curve, heights = (_broadened(place, frequencies, strengths) for place in (axis, frequencies))
    top = 1.15 * max(curve.max(), heights.max(), 1e-3)
    with picture(path, (7.5, 3.6)) as figure:
        axes = figure.subplots()
        figure.suptitle(f"{title(result, directory)} · infrared, harmonic", x=0.02, ha="left", fontsize=11)
        axes.plot(axis, curve, color=BLUE, lw=1.2)
        axes.fill_between(axis, curve, color=BLUE, alpha=0.15, lw=0)
        axes.set_ylabel(f"absorption / km mol⁻¹ cm\n(half width {_HALF_WIDTH:g} cm⁻¹)")
        axes.set_ylim(0.0, top)
        axes.set_xlabel("wavenumber / cm⁻¹")
        axes.set_xlim(axis[-1], 0.0)
        lines = axes.twinx()
        lines.vlines(frequencies, 0.0, strengths, color=ORANGE, lw=1.4)
        for frequency, height, strength in zip(frequencies, heights, strengths, strict=True):
            if strength > 0.1 * strengths.max():
                place = (frequency, height)
                axes.annotate(f"{frequency:.0f}", place, (0, 3), textcoords="offset points", ha="center", fontsize=7)
        lines.set_ylabel("intensity / km mol⁻¹", color=ORANGE)
        lines.set_ylim(0.0, top * np.pi * _HALF_WIDTH)  # a line alone is as high as its peak
        lines.grid(visible=False)
        lines.spines["right"].set_visible(True)


def _broadened(places: np.ndarray, frequencies: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    """Lorentzians of area `strengths` at `places` (P,), cm^-1: (P,) km/mol cm."""
    shapes = _HALF_WIDTH / np.pi / ((places[:, None] - frequencies) ** 2 + _HALF_WIDTH**2)
    return np.asarray(shapes @ strengths)
