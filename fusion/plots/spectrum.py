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
    shapes = _HALF_WIDTH / np.pi / ((axis[:, None] - frequencies) ** 2 + _HALF_WIDTH**2)
    with picture(path, (7.5, 3.6)) as figure:
        axes = figure.subplots()
        figure.suptitle(f"{title(result, directory)} · infrared, harmonic", x=0.02, ha="left", fontsize=11)
        axes.plot(axis, shapes @ strengths, color=BLUE, lw=1.2)
        axes.fill_between(axis, shapes @ strengths, color=BLUE, alpha=0.15, lw=0)
        axes.set_ylabel(f"absorption / km mol⁻¹ cm\n(half width {_HALF_WIDTH:g} cm⁻¹)")
        axes.set_ylim(bottom=0.0)
        axes.set_xlabel("wavenumber / cm⁻¹")
        axes.set_xlim(axis[-1], 0.0)
        lines = axes.twinx()
        lines.vlines(frequencies, 0.0, strengths, color=ORANGE, lw=1.4)
        for frequency, strength in zip(frequencies, strengths, strict=True):
            if strength > 0.1 * strengths.max():
                place = (frequency, strength)
                lines.annotate(f"{frequency:.0f}", place, (0, 3), textcoords="offset points", ha="center", fontsize=7)
        lines.set_ylabel("intensity / km mol⁻¹", color=ORANGE)
        lines.set_ylim(0.0, 1.15 * max(strengths.max(), 1e-3))
        lines.grid(visible=False)
        lines.spines["right"].set_visible(True)
