"""`comparison.png`: energies by all methods beside one another, how far each is from the reference, what it cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.plots.style import BLUE, GREEN, GREY, ORANGE, PURPLE, picture
from fusion.results import read_result
from fusion.units import KCAL_MOL_PER_HARTREE, MILLIHARTREE_PER_HARTREE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, "#c2a11d", "#2a9d9d", "#c24d87", "#7fa6d6", "#d69a7f", "#9c8f5a")
_REFERENCE = "#222222"
_MARKERS = "osD^vP*X<>"
_CHEMICAL = 1.0  # kcal/mol, chemical accuracy


def draw(directory: Path, path: Path) -> None:
    """Draw from `result.json`; nothing where no method has an energy."""
    found = (read_result(directory) or {}).get("comparison")
    if not found or not any("energy_hartree" in v for q in found["quantities"] for v in q["values"].values()):
        return
    others = [method["label"] for method in found["methods"] if method["label"] != found["against"]]
    of_others = {label: _COLOURS[index % len(_COLOURS)] for index, label in enumerate(others)}
    colours = {method["label"]: of_others.get(method["label"], _REFERENCE) for method in found["methods"]}
    scan = "axis" in found
    with picture(path, (9.5, 6.0) if scan else (10.0, 4.2)) as figure:
        figure.suptitle(f"{found['title']} · reference {found['against']}", x=0.02, ha="left", fontsize=11)
        if scan:
            grid = figure.add_gridspec(2, 2, width_ratios=(3, 1.3), height_ratios=(3, 2))
            energies = figure.add_subplot(grid[0, 0])
            differences = figure.add_subplot(grid[1, 0], sharex=energies)
            _curves(energies, found, colours, "energy_hartree", "stderr_hartree")
            _curves(differences, found, colours, "difference_hartree", "difference_stderr_hartree")
            energies.set_ylabel("relative energy / kcal mol⁻¹")
            energies.tick_params(labelbottom=False)
            energies.legend(fontsize=7, ncols=2)
            differences.set_ylabel(f"− {found['against']} / kcal mol⁻¹")
            differences.axhspan(-_CHEMICAL, _CHEMICAL, color=GREY, alpha=0.15, lw=0)
            differences.set_xlabel(found["axis"])
            _cost(figure.add_subplot(grid[:, 1]), found, colours)
        else:
            left, right = figure.subplots(1, 2, width_ratios=(3, 1.3))
            (_deviations if found["kind"] == "molecule" else _bars)(left, found, colours)
            _cost(right, found, colours)


def _curves(axes: Axes, found: Mapping[str, Any], colours: Mapping[str, str], key: str, error: str) -> None:
    """Along a scan, kcal/mol, with statistical errors where there are any."""
    for index, (label, colour) in enumerate(colours.items()):
        points = [(q["coordinate"], q["values"][label]) for q in found["quantities"] if key in q["values"][label]]
        if not points:
            continue
        points.sort(key=lambda point: point[0])
        x = [coordinate for coordinate, _ in points]
        y = KCAL_MOL_PER_HARTREE * np.array([value[key] for _, value in points])
        dy = KCAL_MOL_PER_HARTREE * np.array([value.get(error, math.nan) for _, value in points])
        style = "-" if label == found["against"] else "--"
        axes.plot(x, y, style, marker=_MARKERS[index % len(_MARKERS)], ms=3.5, lw=1.2, color=colour, label=label)
        if np.isfinite(dy).any():
            axes.errorbar(x, y, yerr=dy, fmt="none", ecolor=colour, capsize=2)
        spread = KCAL_MOL_PER_HARTREE * np.array([value.get("std_hartree", math.nan) for _, value in points])
        if key == "energy_hartree" and np.isfinite(spread).all():
            axes.fill_between(x, y - spread, y + spread, color=colour, alpha=0.12, lw=0)
    axes.axhline(0.0, color=GREY, lw=0.8)


def _bars(axes: Axes, found: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    """Reaction and binding energies, kcal/mol, grouped by reaction, with their errors."""
    quantities, labels = found["quantities"], list(colours)
    width = 0.8 / len(labels)
    for index, label in enumerate(labels):
        values = [quantity["values"][label] for quantity in quantities]
        places = np.arange(len(values)) + width * (index - 0.5 * (len(labels) - 1))
        heights = KCAL_MOL_PER_HARTREE * np.array([value.get("energy_hartree", math.nan) for value in values])
        drawn = axes.bar(places, heights, 0.92 * width, color=colours[label], label=label)
        texts = ["" if math.isnan(height) else f"{height:.1f}" for height in heights]
        axes.bar_label(drawn, texts, fontsize=6.5, padding=2, rotation=90 if len(labels) * len(values) > 14 else 0)
        for key, colour, cap in (("std_hartree", GREY, 0), ("stderr_hartree", "black", 2)):
            errors = KCAL_MOL_PER_HARTREE * np.array([value.get(key, math.nan) for value in values])
            if np.isfinite(errors).any():
                axes.errorbar(places, heights, yerr=errors, fmt="none", ecolor=colour, capsize=cap, lw=1.0)
    axes.set_xticks(np.arange(len(quantities)), [_wrapped(quantity["label"]) for quantity in quantities], fontsize=8)
    axes.axhline(0.0, color=GREY, lw=0.8)
    axes.margins(y=0.15)
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("energy / kcal mol⁻¹")
    axes.figure.legend(loc="outside lower left", fontsize=7, ncols=10)


def _deviations(axes: Axes, found: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    """Total energies minus the reference's, mHa, on a scale that shows small and large ones; what has another zero is
    named."""
    values = found["quantities"][0]["values"]
    labels = [label for label in colours if label != found["against"]][::-1]
    numbers = [values[label].get("difference_hartree", math.nan) for label in labels]
    sizes = MILLIHARTREE_PER_HARTREE * np.array(numbers, dtype=float)
    errors = [MILLIHARTREE_PER_HARTREE * values[label].get("difference_stderr_hartree", math.nan) for label in labels]
    places = np.arange(len(labels))
    axes.barh(places, np.nan_to_num(sizes), 0.6, color=[colours[label] for label in labels])
    if np.isfinite(errors).any():
        axes.errorbar(sizes, places, xerr=errors, fmt="none", ecolor="black", capsize=2, lw=1.0)
    axes.set_xscale("symlog", linthresh=1.0)
    axes.axvline(0.0, color=GREY, lw=0.8)
    axes.margins(x=0.25)
    for place, label, size, error in zip(places, labels, sizes, errors, strict=True):
        text = f"{size:+.2f}" if math.isfinite(size) else _why(values[label])
        side = -1 if size < 0 else 1
        at = size + side * (error if math.isfinite(error) else 0.0) if math.isfinite(size) else 0.0
        axes.annotate(
            text, (at, place), (4 * side, 0), textcoords="offset points", va="center", fontsize=8,
            ha="right" if side < 0 else "left",
        )  # fmt: skip
    axes.set_yticks(places, labels)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"energy − {found['against']} / mHa")


def _cost(axes: Axes, found: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    """CPU time of every method, with its memory."""
    from matplotlib.ticker import NullFormatter

    methods: Sequence[Mapping[str, Any]] = found["methods"][::-1]
    places = np.arange(len(methods))
    times = [max(method.get("cpu_s", math.nan), 1e-3) for method in methods]
    axes.barh(places, times, 0.6, color=[colours[method["label"]] for method in methods])
    for place, time, method in zip(places, times, methods, strict=True):
        size = method.get("peak_memory_bytes")
        if size is not None:
            axes.annotate(
                f"{_seconds(time)}, {size / 1e9:.2g} GB",
                (time, place),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
            )
    if np.isfinite(times).any():
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(np.nanmin(times) / 10, np.nanmax(times) * 60)
    axes.set_yticks(places, [method["label"] for method in methods])
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("CPU time / s, memory")


def _seconds(time: float) -> str:
    return f"{1000 * time:.0f} ms" if time < 0.1 else f"{time:.2g} s" if time < 100 else f"{time:.0f} s"


def _why(value: Mapping[str, Any]) -> str:
    return "own zero of energy" if "energy_hartree" in value else "no energy"


def _wrapped(text: str) -> str:
    return text.replace(" -> ", "\n→ ") if len(text) > 18 else text.replace("->", "→")
