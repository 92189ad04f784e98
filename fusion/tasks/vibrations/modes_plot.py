"""`modes.png`: frequencies of a vibrational analysis as sticks and as a smooth density."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fusion.plotting import BLUE, GREY, ORANGE, picture, title
from fusion.runs.results import read_result

_HALF_WIDTH = 15.0  # cm^-1


def draw(directory: Path, path: Path) -> None:
    """Draw from `result.json`; nothing if it has no frequencies."""
    result = read_result(directory) or {}
    frequencies = np.array(result.get("frequencies_cm1") or [])
    if len(frequencies) == 0:
        return
    vibrations = result["vibrations"]
    stderr = result.get("frequencies_stderr_cm1")
    spreads = np.array(stderr or result.get("frequencies_std_cm1") or np.zeros(len(frequencies)))
    imaginary = frequencies < 0
    low, high = min(0.0, frequencies.min() - 150.0), frequencies.max() + 200.0
    axis = np.linspace(low, high, 3000)
    density = (_HALF_WIDTH / np.pi / ((axis[:, None] - frequencies) ** 2 + _HALF_WIDTH**2)).sum(axis=1)
    with picture(path, (7.5, 4.0)) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        verdict = str(vibrations["nature"]).split(":")[0]
        figure.suptitle(f"{title(result, directory)} · {verdict}", x=0.02, ha="left", fontsize=11)
        upper.fill_between(axis, density, color=BLUE, alpha=0.2, lw=0)
        upper.plot(axis, density, color=BLUE, lw=1.0)
        upper.set_ylabel("modes per cm⁻¹")
        upper.set_ylim(bottom=0.0)
        constants = np.abs(np.array(vibrations["force_constants_mdyne_per_angstrom"]))
        for mask, colour, label in ((~imaginary, BLUE, "real"), (imaginary, ORANGE, "imaginary, drawn at −|ν|")):
            if mask.any():
                lower.vlines(frequencies[mask], 0.0, constants[mask], color=colour, lw=1.4, label=label)
        if spreads.any():
            lower.errorbar(
                frequencies,
                constants,
                xerr=spreads,
                fmt="none",
                ecolor=GREY,
                capsize=2,
                label="± standard error" if stderr else "± model spread",
            )
        if imaginary.any() or spreads.any():
            lower.legend(loc="upper left")
        lower.set_ylabel("|force constant|\n/ mdyn Å⁻¹")
        lower.set_ylim(bottom=0.0)
        lower.set_xlabel("wavenumber / cm⁻¹")
        lower.set_xlim(low, high)
