"""`levels.png`: energies above the lowest level in eV by multiplicity, and its spectrum of absorption if it has any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusion.chemistry import spin_states
from fusion.console.format import plus_minus
from fusion.plotting import BLUE, ORANGE, picture, title
from fusion.runs.results import read_result

_HALF = 0.3
"""Half the length of a level on an axis with one unit per multiplicity."""

_DARK = 1e-4
"""Oscillator strength below which a transition is not drawn."""


def draw(directory: Path, path: Path) -> None:
    """Draw the levels of a finished run, and its spectrum beside them; nothing without excited levels."""
    result = read_result(directory) or {}
    excited = result.get("excited") or {}
    levels = excited.get("states") or []
    if len(levels) < 2:
        return
    bright = [t for t in excited["transitions"] if t["from"] == 0 and t["oscillator_strength"] > _DARK]
    with picture(path, (8.0 if bright else 5.0, 4.5)) as figure:
        left, *right = figure.subplots(1, 2 if bright else 1, squeeze=False)[0]
        figure.suptitle(f"{title(result, directory)} · excited states", x=0.02, ha="left", fontsize=11)
        multiplicities = sorted({level.get("multiplicity", 0) for level in levels})
        for level in levels:
            _level(left, multiplicities.index(level.get("multiplicity", 0)), level)
        names = [spin_states.name(number) if number else "mixed spin" for number in multiplicities]
        left.set_xticks(range(len(multiplicities)), names)
        left.set_xlim(-0.6, len(multiplicities) - 0.4)
        left.grid(axis="x", visible=False)
        left.margins(y=0.12)
        left.set_ylabel("energy above the lowest level / eV")
        for axes in right:
            _spectrum(axes, bright)


def _level(axes: Any, place: int, level: dict[str, Any]) -> None:
    """Draw a level with its error bar, value and number of states."""
    height, error = level.get("gap_ev", 0.0), level.get("stderr_gap_ev")
    axes.plot([place - _HALF, place + _HALF], [height, height], color=BLUE, lw=2.2, solid_capstyle="butt")
    if error:
        axes.errorbar([place], [height], [error], color=BLUE, capsize=3)
    times = f" ({level['states']} states)" if level["states"] > 1 else ""
    value = "0" if "gap_ev" not in level else f"{plus_minus(height, error, decimals=3)} eV"
    axes.annotate(
        f"{value}{times}", (place, height), (0, 5), textcoords="offset points", ha="center", va="bottom", fontsize=8
    )


def _spectrum(axes: Any, bright: list[dict[str, Any]]) -> None:
    """Draw oscillator strengths from the lowest level as sticks."""
    for transition in bright:
        x, height = transition["energy_ev"], transition["oscillator_strength"]
        axes.plot([x, x], [0, height], color=ORANGE, lw=2)
        if transition.get("stderr_oscillator_strength"):
            axes.errorbar([x], [height], [transition["stderr_oscillator_strength"]], color=ORANGE, capsize=3)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.set_xlabel("energy / eV")
    axes.set_ylabel("oscillator strength from the lowest level")
