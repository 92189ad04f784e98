"""`scan.png`: energy against a bond, an angle or a dihedral, from scan.csv."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from fusion.chemistry import units
from fusion.plotting import BLUE, GREEN, GREY, ORANGE, picture, title
from fusion.runs.results import read_result

_KJ_PER_KCAL = units.KJ_MOL_PER_HARTREE / units.KCAL_MOL_PER_HARTREE
_VISIBLE = 1e-4  # hartree; directions that differ by less are drawn as one line
_TURN = 360.0
_UNITS = {"degree": "degrees", "angstrom": "Å"}


def draw(table: Path, path: Path) -> None:
    """Draw from the table of a scan, finished or not; nothing if fewer than two points have an energy."""
    if not table.is_file():
        return
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["energy_hartree"]]
    good = np.array([row["converged"] == "1" for row in rows])
    if len(rows) < 2:
        return
    trusted = good if good.any() else np.ones_like(good)
    column = next(iter(rows[0]))
    name, unit = column.rsplit("_", 1)
    values = np.array([float(row[column]) for row in rows])
    if name == "dihedral":
        order, values = turned(values)
        rows, good, trusted = [rows[index] for index in order], good[order], trusted[order]
    else:
        order = np.arange(len(values))
    energies = np.array([float(row["energy_hartree"]) for row in rows])
    relative = (energies - energies[trusted].min()) * units.KCAL_MOL_PER_HARTREE
    spread_key = "relative_std_hartree" if any(row["relative_std_hartree"] for row in rows) else "energy_std_hartree"
    spreads = np.array([float(row[spread_key] or "nan") for row in rows]) * units.KCAL_MOL_PER_HARTREE
    errors = np.array([float(row["energy_stderr_hartree"] or "nan") for row in rows]) * units.KCAL_MOL_PER_HARTREE
    result = read_result(table.parent) or {}
    scan = result.get("scan") or {}
    from matplotlib.ticker import MultipleLocator

    with picture(path) as figure:
        axes = figure.subplots()
        figure.suptitle(title(result, table.parent), x=0.02, ha="left", fontsize=11)
        if np.isfinite(spreads).any():
            label = "± model spread" if spread_key.startswith("rel") else "± model spread of each energy"
            axes.fill_between(values, relative - spreads, relative + spreads, color=BLUE, alpha=0.15, lw=0, label=label)
        for key, colour, label in (("forward_hartree", ORANGE, "forward"), ("backward_hartree", GREEN, "backward")):
            if scan.get("hysteresis_hartree", 0.0) > _VISIBLE and len(scan[key]) == len(values):
                branch = (
                    np.array(scan[key], dtype=float)[order] - energies[trusted].min()
                ) * units.KCAL_MOL_PER_HARTREE
                axes.plot(values, branch, color=colour, lw=1.0, ls="--", label=label)
        axes.plot(values, relative, color=BLUE, lw=1.2, alpha=0.6)
        axes.plot(values[good], relative[good], "o", color=BLUE, ms=4)
        if np.isfinite(errors).any():
            axes.errorbar(values, relative, yerr=errors, fmt="none", ecolor=GREY, capsize=2, label="± statistical")
        if not good.all():
            axes.plot(values[~good], relative[~good], "o", mfc="white", mec=BLUE, ms=5, label="not converged")
        top = int(np.argmax(np.where(trusted, relative, -np.inf)))
        height = f"{relative[top]:.2f} kcal/mol\n{relative[top] * _KJ_PER_KCAL:.2f} kJ/mol"
        share = (values[top] - values.min()) / np.ptp(values)  # at an edge the text stays inside
        align = "left" if share < 0.1 else "right" if share > 0.9 else "center"
        axes.annotate(height, (values[top], relative[top]), (0, 6), textcoords="offset points", ha=align, fontsize=8)
        axes.margins(y=0.18)
        axes.axhline(0.0, color=GREY, lw=0.8)
        if name == "dihedral" and np.ptp(values) > 180.0:
            axes.xaxis.set_major_locator(MultipleLocator(60.0))
        axes.set_xlabel(f"{scan.get('label', name)} / {_UNITS[unit]}")
        axes.set_ylabel("energy − lowest / kcal mol⁻¹")
        scales = (lambda kcal: kcal * _KJ_PER_KCAL, lambda kilojoule: kilojoule / _KJ_PER_KCAL)
        right = axes.secondary_yaxis("right", functions=scales)
        right.set_ylabel("kJ mol⁻¹")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best")


def turned(degrees: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order (n,) on the axis, and values (n,) within -180 ... 360 degrees, of dihedrals (n,).

    They are moved together by a full turn if that is enough, otherwise each to -180 ... 180.
    """
    for turn in (0.0, -_TURN, _TURN):
        if (degrees + turn).min() >= -0.5 * _TURN and (degrees + turn).max() <= _TURN:
            return np.arange(len(degrees)), degrees + turn
    within = (degrees + 0.5 * _TURN) % _TURN - 0.5 * _TURN
    order = np.argsort(within, kind="stable")
    return order, within[order]
