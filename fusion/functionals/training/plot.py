"""`training.png` of a functional's training: loss and errors by step, and the final errors."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from fusion.plotting import BLUE, GREEN, GREY, ORANGE, PURPLE, picture
from fusion.runs.results import read_result

_COLOURS = {"atomisation": BLUE, "ionisation": GREEN, "fractional": PURPLE}
_FEW = 40  # names that can be printed in a normal size


def draw(directory: Path) -> Path | None:
    """Draw `training.png` from metrics.csv and, once there is one, differences.csv; None if nothing is recorded."""
    from fusion.functionals.training import outcome

    path = directory / "metrics.csv"
    if not path.is_file():
        return None
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("phase") == "train" and row.get("loss")]
    if not rows:
        return None
    done = (directory / outcome.TABLE).is_file()
    result = read_result(directory) or {}
    with picture(directory / "training.png", (11.0, 4.4) if done else (6.0, 4.4)) as figure:
        figure.suptitle(
            f"{result.get('method') or directory.resolve().name} · training", x=0.02, ha="left", fontsize=11
        )
        if not done:
            _draw_steps(figure.subplots(), rows)
            return directory / "training.png"
        left, right = figure.subplots(1, 2, width_ratios=(2, 3))
        _draw_steps(left, rows)
        density = (((result.get("settings") or {}).get("method") or {}).get("training") or {}).get("density")
        _draw_errors(right, outcome.read(directory), str(density or "conventional"))
    return directory / "training.png"


def _draw_steps(axes: Any, rows: list[dict[str, str]]) -> None:
    steps, loss = (np.array([float(row[key]) for row in rows]) for key in ("step", "loss"))
    width = max(1, len(loss) // 50)
    smooth = np.exp(np.convolve(np.log(loss), np.ones(width) / width, "valid"))
    axes.plot(steps, loss, color=GREY, alpha=0.3, linewidth=0.6)
    axes.plot(steps[width - 1 :], smooth, color=GREY, label="loss, (kcal/mol)²")
    for key, name, colour in (
        ("train_mae_kcal_mol", "mean error, trained on", BLUE),
        ("held_out_mae_kcal_mol", "mean error, held out", ORANGE),
    ):
        recorded = [(float(row["step"]), float(row[key])) for row in rows if row.get(key)]
        if recorded:
            axes.plot(*zip(*recorded, strict=True), "o-", markersize=3, color=colour, label=f"{name}, kcal/mol")
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.legend(fontsize=7, ncols=2, loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.2)


def _draw_errors(axes: Any, rows: list[dict[str, Any]], density: str) -> None:
    """Draw errors of every difference, with held-out ones on the right, and those of the conventional functional."""
    ordered = sorted(rows, key=lambda row: (row["held_out"], list(_COLOURS).index(row["kind"])))
    places = np.arange(len(ordered))
    for kind, colour in _COLOURS.items():
        errors = [
            (p, r["fixed_density"] - r["reference"]) for p, r in zip(places, ordered, strict=True) if r["kind"] == kind
        ]
        if errors:
            axes.plot(*zip(*errors, strict=True), "o", color=colour, markersize=4, label=f"{kind}, fixed density")
    scf = [
        (p, row["self_consistent"] - row["reference"])
        for p, row in zip(places, ordered, strict=True)
        if row["self_consistent"] is not None
    ]
    if scf:
        axes.plot(*zip(*scf, strict=True), "x", color=ORANGE, label="self-consistent")
    axes.plot(places, [row["conventional"] - row["reference"] for row in ordered], "_", color=GREY, label=density)
    axes.axhline(0.0, color="black", linewidth=0.6)
    first = sum(not row["held_out"] for row in ordered)
    if first < len(ordered):
        axes.axvspan(first - 0.5, len(ordered) - 0.5, color=ORANGE, alpha=0.08)
    axes.set_xticks(places, [row["name"] for row in ordered], rotation=90, fontsize=8 if len(ordered) <= _FEW else 5.5)
    axes.set_yscale("symlog", linthresh=5.0)
    axes.yaxis.set_major_formatter(lambda tick, _: f"{tick:g}")
    axes.margins(y=0.08)
    axes.set_ylabel("error, kcal/mol (shaded: held out)")
    axes.grid(axis="x", visible=False)
    axes.legend(fontsize=7, ncol=5, loc="lower center", bbox_to_anchor=(0.5, 1.0), columnspacing=1.0)
