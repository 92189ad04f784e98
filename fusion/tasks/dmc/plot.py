"""`dmc.png`: energy of diffusion Monte Carlo against projection time, and against the time step."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from fusion.plotting import BLUE, GREEN, GREY, ORANGE, PURPLE, picture, title
from fusion.runs.layout import METRICS
from fusion.runs.results import read_result
from fusion.wavefunctions.diffusion import BLOCK


def draw(directory: Path) -> None:
    """Draw the picture if any step of diffusion is recorded."""
    series = _series(directory)
    if not series:
        return
    result = read_result(directory) or {}
    dmc = result.get("dmc", {})
    with picture(directory / "dmc.png", (8.0, 4.0)) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        for (tau, energies), colour in zip(series.items(), (BLUE, ORANGE, PURPLE, GREEN), strict=False):
            time = tau * BLOCK * np.arange(1, len(energies) + 1)
            left.plot(time, energies, color=colour, alpha=0.35, linewidth=0.6)
            first = dmc.get("equilibration", 0) // BLOCK
            kept = energies[first:]
            mean = np.cumsum(kept) / np.arange(1, len(kept) + 1)
            left.plot(time[first:], mean, color=colour, label=f"time step {tau:g} 1/Ha, running mean")
        left.set_xlabel("projection time / (1/Ha)")
        left.set_ylabel("energy / Ha")
        left.ticklabel_format(useOffset=False)
        left.legend()
        for level, name, colour in _levels(result):
            right.axhline(level, color=colour, linewidth=1.0, linestyle="--", label=name)
        steps = dmc.get("time_steps", [])
        times = np.array([step["time_step_per_hartree"] for step in steps])
        values = np.array([step["energy_hartree"] for step in steps])
        errors = np.array([step["stderr_hartree"] for step in steps])
        if len(times):
            right.errorbar(times, values, errors, fmt="o", color=BLUE, label="diffusion")
        if (limit := dmc.get("extrapolated")) is not None:
            value, error = limit["energy_hartree"], limit["stderr_hartree"]
            right.errorbar([0], [value], [error], fmt="s", color=GREY, label="extrapolated")
        right.set_xlabel("time step / (1/Ha)")
        right.set_ylabel("energy / Ha")
        right.ticklabel_format(useOffset=False)
        right.locator_params(axis="x", nbins=4)
        right.set_xlim(left=-0.05 * (max(times) if len(times) else 1.0))
        right.legend()
        figure.suptitle(f"{title(result, directory)} · diffusion Monte Carlo")


def _series(directory: Path) -> dict[float, np.ndarray]:
    """Energies (hartree) of the recorded blocks by time step (1/hartree)."""
    rows: dict[float, list[float]] = {}
    path = directory / METRICS
    if path.is_file():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                if row.get("phase") == "diffuse":
                    rows.setdefault(float(row["time_step"]), []).append(float(row["energy"]))
    return {tau: np.array(energies) for tau, energies in rows.items()}


def _levels(result: dict[str, Any]) -> list[tuple[float, str, str]]:
    """Energies to compare with: the reference and that of the wavefunction itself."""
    levels = []
    if result.get("reference"):
        levels.append((result["reference"]["value"], "reference", GREEN))
    variational = (result.get("dmc") or {}).get("variational")
    if variational:
        levels.append((variational["energy_hartree"], "variational", ORANGE))
    return levels
