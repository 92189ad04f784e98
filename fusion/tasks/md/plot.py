"""`md.png`: temperature, energies, conserved energy and, if there are any, volume and model spread against time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from fusion.chemistry.units import EV_PER_HARTREE, KCAL_MOL_PER_HARTREE
from fusion.plotting import BLUE, GREEN, GREY, ORANGE, PURPLE, picture, title
from fusion.runs.results import read_result
from fusion.tasks.md.table import Drift, drift, read_table

_MOST_POINTS = 20000


def draw(directory: Path) -> Path | None:
    """Draw `md.png` from md.csv and, if there is one, result.json; None while there are fewer than two rows."""
    table = read_table(directory)
    if len(table.get("time_fs", ())) < 2:
        return None
    result = read_result(directory) or {}
    md = result.get("md") or {}
    atoms = len((result.get("system") or {}).get("symbols", ())) or _atoms(directory)
    line = drift(table, atoms, md.get("discarded_fraction", 0.0)) if "conserved_hartree" in table else None
    table = {name: values[:: 1 + len(values) // _MOST_POINTS] for name, values in table.items()}
    time = table["time_fs"] / 1000.0
    panels = ["temperature", "energy"]
    panels += ["conserved"] if "conserved_hartree" in table else []
    panels += ["volume"] if np.ptp(table.get("volume_angstrom3", np.zeros(1))) > 0 else []
    panels += ["spread"] if "energy_std_hartree" in table else []
    with picture(directory / "md.png", (7.5, 1.2 + 1.9 * len(panels))) as figure:
        figure.suptitle(title(result, directory), x=0.02, ha="left", fontsize=11)
        axes = dict(zip(panels, np.atleast_1d(figure.subplots(len(panels), 1, sharex=True)), strict=True))
        _temperature(axes["temperature"], time, table["temperature_k"], md)
        _energy(axes["energy"], time, table)
        if "conserved" in axes:
            _conserved(axes["conserved"], time, table, line, atoms)
        if "volume" in axes:
            _volume(axes["volume"], time, table)
        if "spread" in axes:
            _spread(axes["spread"], time, table["energy_std_hartree"], atoms, md)
        axes[panels[-1]].set_xlabel("time / ps")
        axes[panels[-1]].set_xlim(time[0], time[-1])
    return directory / "md.png"


def _temperature(axes: Any, time: np.ndarray, values: np.ndarray, md: dict[str, Any]) -> None:
    axes.plot(time, values, color=ORANGE, lw=0.6, alpha=0.6)
    _running(axes, time, values, ORANGE)
    target, mean = md.get("target_temperature_k"), md.get("temperature_k")
    if target is not None:
        axes.axhline(target, color=GREY, lw=1.0, ls="--", label=f"target: {target:g} K")
    if mean:
        error = f" ± {mean['stderr']:.2g}" if mean.get("stderr") else ""
        start = time[int(md.get("discarded_fraction", 0.0) * len(time))]
        axes.plot(
            [start, time[-1]], [mean["value"]] * 2, color="black", lw=1.0, label=f"mean: {mean['value']:.1f}{error} K"
        )
    if target is not None or mean:
        _legend(axes)
    axes.set_ylabel("temperature / K")
    axes.set_ylim(bottom=0.0)


def _energy(axes: Any, time: np.ndarray, table: dict[str, np.ndarray]) -> None:
    """Draw potential and total energy in kcal/mol relative to the lowest potential energy."""
    zero = table["potential_hartree"].min()
    above = f"potential, above {zero:.5f} Ha"
    for name, label, colour in (("potential", above, BLUE), ("total", "potential + kinetic", GREEN)):
        values = (table[f"{name}_hartree"] - zero) * KCAL_MOL_PER_HARTREE
        axes.plot(time, values, color=colour, lw=0.8, label=label)
    axes.set_ylabel("energy / kcal mol$^{-1}$")
    _legend(axes)


def _conserved(axes: Any, time: np.ndarray, table: dict[str, np.ndarray], line: Drift | None, atoms: int) -> None:
    scale, zero = 1000.0 * EV_PER_HARTREE / atoms, table["conserved_hartree"][0]
    axes.plot(time, (table["conserved_hartree"] - zero) * scale, color=PURPLE, lw=0.7)
    if line is not None:
        ends = np.array([line.from_ps, line.to_ps])
        values = (line.intercept_hartree - zero) * scale + line.mev_per_atom_ps * ends
        label = f"drift {line.mev_per_atom_ps:+.2g} meV/(atom ps), scatter {line.scatter_mev_per_atom:.2g} meV/atom"
        axes.plot(ends, values, color="black", lw=1.0, ls="--", label=label)
        _legend(axes)
    heat = not np.allclose(table["conserved_hartree"], table["total_hartree"], rtol=0, atol=1e-9)
    axes.set_ylabel(("total − heat" if heat else "total energy") + "\n/ meV per atom")


def _volume(axes: Any, time: np.ndarray, table: dict[str, np.ndarray]) -> None:
    axes.plot(time, table["volume_angstrom3"], color=GREEN, lw=1.0)
    axes.set_ylabel("volume / Å³")


def _spread(axes: Any, time: np.ndarray, spread: np.ndarray, atoms: int, md: dict[str, Any]) -> None:
    values = 1000.0 * spread / math.sqrt(atoms)
    axes.plot(time, values, color=GREY, lw=0.8)
    outside = (md.get("outside") or {}).get("first_fs")
    if outside is not None:
        axes.axvline(outside / 1000.0, color=ORANGE, lw=1.0, ls="--", label="first outside of the model's domain")
        _legend(axes)
    axes.set_ylabel("model spread\n/ mHa per √atom")
    axes.set_ylim(bottom=0.0)


def _legend(axes: Any) -> None:
    """Draw the legend above the panel, where it hides no line."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.1, ncols=2)


def _running(axes: Any, time: np.ndarray, values: np.ndarray, colour: str) -> None:
    """Draw the running mean over a twentieth of the run."""
    window = len(values) // 20
    if window >= 3:
        mean = np.convolve(values, np.full(window, 1.0 / window), mode="valid")
        axes.plot(np.convolve(time, np.full(window, 1.0 / window), mode="valid"), mean, color=colour, lw=1.6)


def _atoms(directory: Path) -> int:
    """Number of atoms of an unfinished run, from the first line of its trajectory."""
    with (directory / "md.extxyz").open() as file:
        return int(file.readline())
