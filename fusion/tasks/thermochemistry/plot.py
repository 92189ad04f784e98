"""`thermochemistry.png`: errors of heats of formation and reaction enthalpies against experiment."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from fusion.plotting import BLUE, GREEN, GREY, ORANGE, PURPLE, picture
from fusion.runs.results import read_result

_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, GREY)
_LONGEST = 34  # characters of a name


def draw(directory: Path, path: Path) -> None:
    """Draw from the result of a run; nothing if no value has an experimental one."""
    thermochemical = (read_result(directory) or {}).get("thermochemical")
    rows = (
        [row for row in (*thermochemical["formation"], *thermochemical["reactions"]) if "error_hartree" in row]
        if thermochemical
        else []
    )
    if not rows or thermochemical is None:
        return
    from fusion.tasks.thermochemistry.report import UNITS

    names = list(dict.fromkeys(row["name"] for row in rows))
    levels = [level for level in thermochemical["levels"] if any(row["level"] == level for row in rows)]
    height = 0.8 / len(levels)
    with picture(path, (7.0, 1.6 + len(names) * max(0.3, 0.12 + 0.08 * len(levels)))) as figure:
        axes = figure.subplots()
        for number, level in enumerate(levels):
            rows_of_level = [row for row in rows if row["level"] == level]
            places = [names.index(row["name"]) + (number - 0.5 * (len(levels) - 1)) * height for row in rows_of_level]
            values = np.array([row["error_hartree"] for row in rows_of_level]) * UNITS[thermochemical["unit"]]
            deviations = np.array([_deviation(row) for row in rows_of_level]) * UNITS[thermochemical["unit"]]
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
            for place, value, deviation in zip(places, values, np.nan_to_num(deviations), strict=True):
                side = -1 if value < 0 else 1
                axes.annotate(
                    f"{value:+.1f}", (value + side * deviation, place), (4 * side, 0), textcoords="offset points",
                    va="center", ha="left" if side > 0 else "right", fontsize=7,
                )  # fmt: skip
        one_kcal = UNITS[thermochemical["unit"]] / UNITS["kcal/mol"]
        axes.axvspan(-one_kcal, one_kcal, color=GREY, alpha=0.2, lw=0, zorder=0)
        axes.axvline(0.0, color="black", lw=0.8)
        axes.set_yticks(range(len(names)), [_short(name) for name in names])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(
            f"calculated − measured, 298.15 K / {thermochemical['unit'].replace('/mol', ' mol⁻¹')}; grey: ±1 kcal/mol"
        )
        axes.margins(x=0.15, y=0.01)
        figure.suptitle("errors of heats of formation and reaction enthalpies", x=0.02, ha="left", fontsize=11)
        figure.legend(loc="outside lower center", ncols=2)


def _deviation(row: dict[str, Any]) -> float:
    parts = [row[key] for key in ("stderr_hartree", "std_hartree") if key in row]
    return math.hypot(*parts) if parts else math.nan


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
