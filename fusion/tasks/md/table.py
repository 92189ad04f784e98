"""Analysis of a molecular dynamics run's table: averages with their errors, and the conservation of energy."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusion.chemistry.units import EV_PER_HARTREE, HARTREE_PER_EV
from fusion.console.format import plus_minus

TABLE = "md.csv"
_VISIBLE_MEV = 0.5
"""Change of the conserved energy per atom below which a short run tells nothing about its drift; kT is 26 meV."""
_LONGEST_STEP = 0.2
"""Ratio of the scatters of conserved and kinetic energy above which the time step is too long."""


@dataclass(frozen=True)
class Drift:
    """A line fitted to the conserved energy: its slope, and the scatter about it."""

    mev_per_atom_ps: float
    scatter_mev_per_atom: float
    kinetic_scatter_mev_per_atom: float
    from_ps: float
    to_ps: float
    intercept_hartree: float

    def plain(self) -> dict[str, float]:
        """Values for result.json."""
        return {
            "slope_mev_per_atom_ps": self.mev_per_atom_ps,
            "scatter_mev_per_atom": self.scatter_mev_per_atom,
            "from_ps": self.from_ps,
            "to_ps": self.to_ps,
        }

    def problem(self, limit: float) -> str | None:
        """Description of a fault: a slope above `limit` that exceeds the scatter, or too much scatter; None without."""
        change = abs(self.mev_per_atom_ps) * (self.to_ps - self.from_ps)
        if abs(self.mev_per_atom_ps) > limit and change > max(3.0 * self.scatter_mev_per_atom, _VISIBLE_MEV):
            return f"the conserved energy drifts by {self.mev_per_atom_ps:+.3g} meV per atom and ps"
        if self.scatter_mev_per_atom > _LONGEST_STEP * self.kinetic_scatter_mev_per_atom > 0:
            return f"the conserved energy jumps by {self.scatter_mev_per_atom:.3g} meV per atom"
        return None


def read_table(directory: Path) -> dict[str, np.ndarray]:
    """Read the columns of md.csv, each (rows,), without a last row cut short by a kill. Empty without the file."""
    path = directory / TABLE
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = list(csv.reader(file))
    if not rows:
        return {}
    header, body = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    if body and not path.read_bytes().endswith(b"\n"):
        body.pop()
    values = np.array([[_number(word) for word in row] for row in body]).reshape(len(body), len(header))
    return {name: values[:, column] for column, name in enumerate(header)}


def averages(table: dict[str, np.ndarray], discard: float) -> dict[str, dict[str, float | None]]:
    """Mean and standard error of each fluctuating quantity, without the first fraction `discard` of the rows."""
    names = ("temperature_k", "potential_hartree", "total_hartree", "volume_angstrom3", "pressure_bar")
    means = {}
    for name in names:
        if name in table and len(table[name]):
            series = table[name][int(discard * len(table[name])) :]
            means[name] = {"value": float(series.mean()), "stderr": mean_error(series)}
    return means


def mean_error(series: np.ndarray) -> float | None:
    """Standard error of the mean of a correlated series: the largest estimate over all block lengths.

    Flyvbjerg & Petersen, J. Chem. Phys. 91, 461 (1989), down to four blocks. An earlier plateau is too low for short
    runs and for vibrations, which are anticorrelated at first. None for fewer than two values.
    """
    errors: list[float] = []
    blocks = np.asarray(series, dtype=float)
    while len(blocks) >= 4 or (len(blocks) >= 2 and not errors):
        errors.append(float(blocks.std(ddof=1)) / len(blocks) ** 0.5)
        blocks = 0.5 * (blocks[: len(blocks) // 2 * 2 : 2] + blocks[1::2])
    return max(errors) if errors else None


def drift(table: dict[str, np.ndarray], atoms: int, discard: float) -> Drift | None:
    """Drift of the conserved energy, without the first fraction `discard` of the rows.

    None if no energy is conserved or there are too few rows.
    """
    first = int(discard * len(table.get("time_fs", ())))
    if "conserved_hartree" not in table or len(table["time_fs"]) - first < 4:
        return None
    time, energy = table["time_fs"][first:] / 1000.0, table["conserved_hartree"][first:]
    if not np.isfinite(energy).all():
        return None
    per_atom = 1000.0 * EV_PER_HARTREE / atoms
    slope, start = np.polyfit(time, energy - energy[0], 1)
    scatter = np.std(energy - energy[0] - start - slope * time)
    return Drift(
        float(slope * per_atom),
        float(scatter * per_atom),
        float(np.std(table["kinetic_hartree"][first:]) * per_atom),
        float(time[0]),
        float(time[-1]),
        float(start + energy[0]),
    )


def departures(state: Mapping[str, Any], atoms: int, timestep_fs: float) -> dict[str, Any]:
    """Largest uncertainty of the model, and the share of the run outside its training data, for result.json."""
    seen, details = state["seen"], {}
    if seen["largest_spread"] is not None:
        spread = seen["largest_spread"] * HARTREE_PER_EV
        details["largest_spread"] = {
            "hartree": spread,
            "hartree_per_sqrt_atom": spread / math.sqrt(atoms),
            "time_fs": seen["largest_step"] * timestep_fs,
        }
    if seen["first_outside"] is not None:
        details["outside"] = {
            "fraction_of_steps": seen["outside"] / (state["step"] + 1),
            "first_fs": seen["first_outside"] * timestep_fs,
        }
    return details


def rows(md: dict[str, Any]) -> Iterator[list[str]]:
    """Lines for the terminal from the `md` part of result.json."""
    target, drift, outside = md.get("target_temperature_k"), md.get("drift"), md.get("outside")
    if "temperature_k" in md:
        initial = f"{md.get('initial_temperature_k', math.nan):.0f} K at the start"
        comment = f"asked for {target:g} K" if target is not None else initial
        yield ["temperature", f"{_estimate(md['temperature_k'], 1)} K", comment]
    if "pressure_bar" in md:
        volume = f"volume {_estimate(md['volume_angstrom3'], 1)} Å³" if "volume_angstrom3" in md else ""
        yield ["pressure", f"{_estimate(md['pressure_bar'], 0)} bar", volume]
    if drift:
        name = "drift" if target is None else "drift, less heat"
        scatter = f"scatter {drift['scatter_mev_per_atom']:.2g} meV/atom"
        yield [name, f"{drift['slope_mev_per_atom_ps']:+.2g} meV/(atom ps)", scatter]
    if "largest_spread" in md:
        spread = md["largest_spread"]
        comment = f"{1000 * spread['hartree_per_sqrt_atom']:.2g} mHa per sqrt(atom), at {spread['time_fs']:g} fs"
        yield ["model, at most", f"± {spread['hartree']:.2g} Ha", comment]
    if outside:
        share = f"{100 * outside['fraction_of_steps']:.2g} % of the steps"
        yield ["OUTSIDE", share, f"of what the model was trained on, first at {outside['first_fs']:g} fs"]
    if "step_ms" in md:
        speed = f"{md['ns_per_day']:.3g} ns/day, {100 * md['model_fraction']:.1f} % of the time in the model"
        yield ["speed", f"{md['step_ms']:.3g} ms/step", speed]


def _estimate(value: dict[str, Any], decimals: int) -> str:
    return plus_minus(value["value"], value["stderr"], decimals=decimals)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
