"""`comparison.png`: energies by all methods, their differences to the reference, and their cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.chemistry.units import KCAL_MOL_PER_HARTREE, MILLIHARTREE_PER_HARTREE
from fusion.plotting import BLUE, GREEN, GREY, ORANGE, PURPLE, picture
from fusion.runs.results import read_result
from fusion.tasks.compare.unit import unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Panel = Callable[["Axes", Mapping[str, Any], Mapping[str, str]], None]
_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, "#c2a11d", "#2a9d9d", "#c24d87", "#7fa6d6", "#d69a7f", "#9c8f5a")
_REFERENCE = "#222222"
_MARKERS = "osD^vP*X<>"
_CHEMICAL = 1.0  # kcal/mol, chemical accuracy


def draw(directory: Path, path: Path) -> None:
    """Draw from `result.json`; nothing if no method has an energy."""
    comparison = (read_result(directory) or {}).get("comparison")
    if not comparison or not any("energy_hartree" in v for q in comparison["quantities"] for v in q["values"].values()):
        return
    others = [method["label"] for method in comparison["methods"] if method["label"] != comparison["against"]]
    other_colours = {label: _COLOURS[index % len(_COLOURS)] for index, label in enumerate(others)}
    colours = {method["label"]: other_colours.get(method["label"], _REFERENCE) for method in comparison["methods"]}
    scan, panels = "axis" in comparison, _panels(comparison)
    if not panels:
        return
    with picture(path, (9.5, 6.0) if scan else (10.0, 4.2)) as figure:
        about = f"reference {comparison['against']}" if _compared(comparison) else "no energies that can be compared"
        figure.suptitle(f"{comparison['title']} · {about}", x=0.02, ha="left", fontsize=11)
        if scan:
            _scan(figure, comparison, colours)
            return
        ratios = [1.3 if panel is _cost else 3.0 for panel in panels]
        row = figure.subplots(1, len(panels), width_ratios=ratios, squeeze=False)[0]
        for axes, panel in zip(row, panels, strict=True):
            panel(axes, comparison, colours)


def _panels(comparison: Mapping[str, Any]) -> list[Panel]:
    """Panels for molecules and reactions; none without data."""
    molecule = comparison["kind"] == "molecule"
    compared: list[Panel] = [_deviations if molecule else _bars] if not molecule or _compared(comparison) else []
    cost = any(method.get("cpu_s") is not None for method in comparison["methods"])
    return [*compared, *([_cost] if cost else [])]


def _compared(comparison: Mapping[str, Any]) -> bool:
    """True if a method has a difference to the reference; a single method or another energy zero has none."""
    return any(
        "difference_hartree" in value
        for quantity in comparison["quantities"]
        for label, value in quantity["values"].items()
        if label != comparison["against"]
    )


def _scan(figure: Figure, comparison: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    """Draw energies along a coordinate and their cost, and differences to the reference if there are any."""
    compared = _compared(comparison)
    grid = figure.add_gridspec(1 + compared, 2, width_ratios=(3, 1.3), height_ratios=(3, 2) if compared else (1,))
    energies = lowest = figure.add_subplot(grid[0, 0])
    _curves(energies, comparison, colours, "energy_hartree", "stderr_hartree")
    energies.set_ylabel("relative energy / kcal mol⁻¹")
    energies.legend(fontsize=7, ncols=2)
    if compared:
        lowest = figure.add_subplot(grid[1, 0], sharex=energies)
        _curves(lowest, comparison, colours, "difference_hartree", "difference_stderr_hartree")
        energies.tick_params(labelbottom=False)
        lowest.set_ylabel(f"energy − {comparison['against']}\n/ kcal mol⁻¹")
        lowest.axhspan(-_CHEMICAL, _CHEMICAL, color=GREY, alpha=0.15, lw=0)
    lowest.set_xlabel(comparison["axis"])
    _cost(figure.add_subplot(grid[:, 1]), comparison, colours)


def _curves(axes: Axes, comparison: Mapping[str, Any], colours: Mapping[str, str], key: str, error: str) -> None:
    """Draw energies along a scan, kcal/mol, with statistical errors if there are any."""
    for index, (label, colour) in enumerate(colours.items()):
        points = [(q["coordinate"], q["values"][label]) for q in comparison["quantities"] if key in q["values"][label]]
        if not points:
            continue
        points.sort(key=lambda point: point[0])
        x = [coordinate for coordinate, _ in points]
        y = KCAL_MOL_PER_HARTREE * np.array([value[key] for _, value in points])
        dy = KCAL_MOL_PER_HARTREE * np.array([value.get(error, math.nan) for _, value in points])
        style = "-" if label == comparison["against"] else "--"
        axes.plot(x, y, style, marker=_MARKERS[index % len(_MARKERS)], ms=3.5, lw=1.2, color=colour, label=label)
        if np.isfinite(dy).any():
            axes.errorbar(x, y, yerr=dy, fmt="none", ecolor=colour, capsize=2)
        spread = KCAL_MOL_PER_HARTREE * np.array([value.get("std_hartree", math.nan) for _, value in points])
        if key == "energy_hartree" and np.isfinite(spread).all():
            axes.fill_between(x, y - spread, y + spread, color=colour, alpha=0.12, lw=0)
    axes.axhline(0.0, color=GREY, lw=0.8)


def _bars(axes: Axes, comparison: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    """Draw reaction, binding and excitation energies, grouped by quantity, with their errors."""
    unit = unit_of(comparison)
    quantities, labels = comparison["quantities"], list(colours)
    width = 0.8 / len(labels)
    for index, label in enumerate(labels):
        values = [quantity["values"][label] for quantity in quantities]
        places = np.arange(len(values)) + width * (index - 0.5 * (len(labels) - 1))
        heights = unit.factor * np.array([value.get("energy_hartree", math.nan) for value in values])
        axes.bar(places, heights, 0.92 * width, color=colours[label], label=label)
        beyond = np.zeros(len(heights))  # numbers are placed beyond the longest error bar
        for key, colour, cap in (("std_hartree", GREY, 0), ("stderr_hartree", "black", 2)):
            errors = unit.factor * np.array([value.get(key, math.nan) for value in values])
            if np.isfinite(errors).any():
                axes.errorbar(places, heights, yerr=errors, fmt="none", ecolor=colour, capsize=cap, lw=1.0)
                beyond = np.maximum(beyond, np.nan_to_num(errors))
        for place, height, error in zip(places, heights, beyond, strict=True):
            if np.isfinite(height):
                side = -1 if height < 0 else 1
                text = f"{height:.{unit.decimals - 1}f}"
                axes.annotate(
                    text, (place, height + side * error), (0, 3 * side), textcoords="offset points",
                    ha="center", va="bottom" if side > 0 else "top", fontsize=6.5,
                    rotation=90 if len(labels) * len(values) > 14 else 0,
                )  # fmt: skip
    axes.set_xticks(np.arange(len(quantities)), [_wrapped(quantity["label"]) for quantity in quantities], fontsize=8)
    axes.axhline(0.0, color=GREY, lw=0.8)
    axes.margins(y=0.15)
    axes.grid(axis="x", visible=False)
    axes.set_ylabel(f"energy / {unit.symbol}")
    axes.figure.legend(loc="outside lower left", fontsize=7, ncols=10)


def _deviations(axes: Axes, comparison: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    """Draw total energies minus the reference, mHa, on a symmetric logarithmic scale; methods with another energy zero
    are only named."""
    values = comparison["quantities"][0]["values"]
    labels = [label for label in colours if label != comparison["against"]][::-1]
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
        text = f"{size:+.2f}" if math.isfinite(size) else _missing_reason(values[label])
        side = -1 if size < 0 else 1
        position = size + side * (error if math.isfinite(error) else 0.0) if math.isfinite(size) else 0.0
        axes.annotate(
            text, (position, place), (4 * side, 0), textcoords="offset points", va="center", fontsize=8,
            ha="right" if side < 0 else "left",
        )  # fmt: skip
    axes.set_yticks(places, labels)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"energy − {comparison['against']} / mHa, logarithmic beyond ±1")


def _cost(axes: Axes, comparison: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    """Draw the CPU time of every method, with its memory."""
    from matplotlib.ticker import NullFormatter

    methods: Sequence[Mapping[str, Any]] = comparison["methods"][::-1]
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


def _missing_reason(value: Mapping[str, Any]) -> str:
    return "own zero of energy" if "energy_hartree" in value else "no energy"


def _wrapped(text: str) -> str:
    return text.replace(" -> ", "\n→ ") if len(text) > 18 else text.replace("->", "→")
