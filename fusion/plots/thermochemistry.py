"""`thermochemistry.png`: errors of heats of formation and reaction enthalpies against experiment."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from fusion.plots.style import BLUE, GREEN, GREY, ORANGE, PURPLE, picture
from fusion.results import read_result

_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, GREY)
_LONGEST = 34  # characters of a name


def draw(directory: Path, path: Path) -> None:
    """Draw from the result of a run; nothing where no number has an experiment beside it."""
    found = (read_result(directory) or {}).get("thermochemical")
    rows = [row for row in (*found["formation"], *found["reactions"]) if "error_hartree" in row] if found else []
    if not rows or found is None:
        return
    from fusion.tasks.thermochemical.outcome import UNITS

    names = list(dict.fromkeys(row["name"] for row in rows))
    levels = [level for level in found["levels"] if any(row["level"] == level for row in rows)]
    height = 0.8 / len(levels)
    with picture(path, (7.0, max(2.4, 1.3 + 0.3 * len(names) * max(1.0, 0.45 * len(levels))))) as figure:
        axes = figure.subplots()
        for number, level in enumerate(levels):
            mine = [row for row in rows if row["level"] == level]
            places = [names.index(row["name"]) + (number - 0.5 * (len(levels) - 1)) * height for row in mine]
            values = np.array([row["error_hartree"] for row in mine]) * UNITS[found["unit"]]
            deviations = np.array([_deviation(row) for row in mine]) * UNITS[found["unit"]]
            colour = _COLOURS[number % len(_COLOURS)]
            axes.barh(
                places,
                values,
                0.9 * height,
                color=colour,
                zorder=2,
                label=f"{level}: mean |error| {np.abs(values).mean():.1f}",
            )
            if np.isfinite(deviations).any():
                axes.errorbar(values, places, xerr=deviations, fmt="none", ecolor="black", capsize=2, lw=0.8)
        axes.axvspan(
            *(sign * UNITS[found["unit"]] / UNITS["kcal/mol"] for sign in (-1, 1)), color=GREY, alpha=0.2, lw=0
        )
        axes.axvline(0.0, color="black", lw=0.8)
        axes.set_yticks(range(len(names)), [_short(name) for name in names])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(
            f"calculated − measured, 298.15 K / {found['unit'].replace('/mol', ' mol⁻¹')}; grey: ±1 kcal/mol"
        )
        axes.legend(loc="best")


def _deviation(row: dict[str, Any]) -> float:
    parts = [row[key] for key in ("stderr_hartree", "std_hartree") if key in row]
    return math.hypot(*parts) if parts else math.nan


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
