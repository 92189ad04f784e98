"""`levels.png`: energies of the states relative to the system, in eV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusion.chemistry import spin_states, units
from fusion.console.format import plus_minus
from fusion.plotting import BLUE, GREEN, GREY, picture, title
from fusion.runs.results import read_result

_HALF = 0.32
"""Half the length of a level on an axis with one unit per state."""


def draw(directory: Path, path: Path) -> None:
    """Draw the levels of a finished run from the highest charge to the lowest; nothing with fewer than two energies."""
    result = read_result(directory) or {}
    states = (result.get("ionisation") or {}).get("states") or []
    known = sorted((state for state in states if "energy_hartree" in state), key=lambda state: -state["charge"])
    zero = next((state for state in known if state["name"] == "system"), None)
    if zero is None or len(known) < 2:
        return
    with picture(path, (1.6 + 1.8 * len(known), 4.0)) as figure:
        axes = figure.subplots()
        figure.suptitle(f"{title(result, directory)} · vertical ionisation", x=0.02, ha="left", fontsize=11)
        heights = [(state["energy_hartree"] - zero["energy_hartree"]) * units.EV_PER_HARTREE for state in known]
        axes.plot(range(len(known)), heights, color=GREY, lw=0.8, ls=":", zorder=1)
        for place, (state, height) in enumerate(zip(known, heights, strict=True)):
            _level(axes, place, height, state, zero)
        axes.set_xticks(range(len(known)), [_name(state) for state in known])
        axes.set_xlim(-0.6, len(known) - 0.4)
        axes.grid(axis="x", visible=False)
        axes.margins(y=0.15)
        axes.set_ylabel(f"energy − E({zero['label']}) / eV")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper right")


def _level(axes: Any, place: int, height: float, state: dict[str, Any], zero: dict[str, Any]) -> None:
    """Draw the level of a state with its value, and the reference where both have one."""
    ends = [place - _HALF, place + _HALF]
    axes.plot(ends, [height, height], color=BLUE, lw=2.2, zorder=2, solid_capstyle="butt")
    if state is zero:
        return
    errors = [each["stderr_hartree"] ** 2 for each in (state, zero) if "stderr_hartree" in each]
    error = sum(errors) ** 0.5 * units.EV_PER_HARTREE if errors else None
    axes.annotate(
        f"{plus_minus(height, error, decimals=3)} eV", (place, height), (0, 5), textcoords="offset points",
        ha="center", va="bottom", fontsize=8,
    )  # fmt: skip
    if "reference" in state and "reference" in zero:
        reference = (state["reference"]["hartree"] - zero["reference"]["hartree"]) * units.EV_PER_HARTREE
        label = "reference" if "reference" not in axes.get_legend_handles_labels()[1] else None
        axes.plot(ends, [reference, reference], color=GREEN, lw=1.2, ls="--", zorder=3, label=label)


def _name(state: dict[str, Any]) -> str:
    multiplicity = state.get("multiplicity")
    return state["label"] + (f"\n{spin_states.name(multiplicity)}" if multiplicity else "\nbare nuclei")
