"""`training.png` of a potential's training: loss, learning rate and errors in validation by epoch; `parity.png`."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np

from fusion.plotting import BLUE, GREEN, GREY, ORANGE, PURPLE, picture, title
from fusion.runs.results import read_result


def has_epochs(directory: Path) -> bool:
    """True if metrics.csv belongs to the training of a potential."""
    path = directory / "metrics.csv"
    if not path.is_file():
        return False
    with path.open() as file:
        return "epoch_done" in file.readline().strip().split(",")


def draw(directory: Path) -> Path | None:
    """Draw from metrics.csv, structures.csv and forces.npz, as far as they exist; None if nothing is recorded."""
    from fusion.evaluation import calibration_plot, parity_plot

    if not has_epochs(directory):
        return None
    rows = _rows(directory)
    if not rows:
        return None

    def column(name: str) -> tuple[np.ndarray, np.ndarray]:
        pairs = [(float(row["epoch_done"]), float(row[name])) for row in rows if row.get(name)]
        epochs, values = np.array(pairs).T if pairs else np.empty((2, 0))
        return epochs, values

    with picture(directory / "training.png", (8.0, 5.6)) as figure:
        result = (read_result(directory) or {}) | {"system": None}  # the data have many molecules
        figure.suptitle(f"{title(result, directory)} · training", x=0.02, ha="left", fontsize=11)
        losses, errors = figure.subplots(2, 1, sharex=True)
        losses.plot(*column("loss"), color=GREY, lw=1.0, label="loss, training")
        losses.plot(*column("validation_loss"), color=BLUE, lw=1.0, label="loss, validation")
        _logarithmic(losses)
        losses.set_ylabel("loss")
        rates = losses.twinx()
        rates.plot(*column("learning_rate"), color=ORANGE, lw=0.8, ls="--", label="learning rate")
        rates.set_yscale("log")
        rates.set_ylabel("learning rate", color=ORANGE)
        rates.grid(visible=False)
        _legend(losses)
        errors.plot(*column("validation_energy_mae_kcal_mol"), color=BLUE, lw=1.0, label="energy / kcal mol$^{-1}$")
        epochs, forces = column("validation_forces_mae_mev_angstrom")
        if len(forces):
            errors.plot(epochs, forces / 100.0, color=GREEN, lw=1.0, label="forces / 0.1 eV Å$^{-1}$")
        more = (("stress_mae_mev_angstrom3", "stress / meV Å$^{-3}$"), ("dipole_mae_debye", "dipole / debye"))
        for (key, label), colour in zip(more, (ORANGE, PURPLE), strict=True):
            epochs, values = column(f"validation_{key}")
            if len(values):
                errors.plot(epochs, values, color=colour, lw=1.0, label=label)
        _logarithmic(errors)
        errors.set_xlabel("epoch")
        errors.set_ylabel("mean error, validation")
        errors.xaxis.get_major_locator().set_params(integer=True)
        _legend(errors)
    parity_plot.draw(directory)
    calibration_plot.draw(directory)
    return directory / "training.png"


def stands(directory: Path) -> str | None:
    """Progress of an unfinished training: its last recorded epoch."""
    if not has_epochs(directory):
        return None
    rows = _rows(directory)
    if not rows:
        return None
    last = rows[-1]
    parts = [f"epoch {last['epoch_done']}"]
    for key, unit in (("energy_mae_kcal_mol", "kcal/mol"), ("forces_mae_mev_angstrom", "meV/Å")):
        if last.get(f"validation_{key}"):
            parts.append(f"{float(last[f'validation_{key}']):.3g} {unit}")
    return ", ".join(parts)


def _rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _legend(axes: Any) -> None:
    """Draw the legend above the axes, where it hides no curve."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, borderaxespad=0.2)


def _logarithmic(axes: object) -> None:
    lines = [line.get_ydata() for line in axes.lines]  # type: ignore[attr-defined]
    if any(len(values) and math.isfinite(max(values)) and max(values) > 0 for values in lines):
        axes.set_yscale("log")  # type: ignore[attr-defined]
