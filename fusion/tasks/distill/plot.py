"""Picture of a distillation: errors against labels, and energies of the test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fusion.chemistry.units import KCAL_MOL_PER_HARTREE
from fusion.plotting import BLUE, GREY, ORANGE, picture


def draw(directory: Path, curve: Path, path: Path) -> None:
    """Draw the learning curve of the file `curve`, and the last round's test from `directory`."""
    entries = json.loads(curve.read_text())
    labels = [entry["structures"] for entry in entries]
    with picture(path, size=(9.0, 4.0)) as figure:
        left, right = figure.subplots(1, 2)
        left.plot(labels, [entry["energy_mae_kcal"] for entry in entries], "o-", color=BLUE, label="energy, kcal/mol")
        forces = [entry["forces_mae_kcal_angstrom"] for entry in entries]
        left.plot(labels, forces, "s-", color=ORANGE, label="forces, kcal/mol/Å")
        left.set(xlabel="labels", ylabel="mean absolute error on the test", ylim=(0, None))
        left.legend()
        with np.load(directory / f"round-{entries[-1]['round']}" / "test.npz") as test:
            label, energy, std = (KCAL_MOL_PER_HARTREE * test[name] for name in ("label", "energy", "std"))
        zero = label.min()
        span = (0.0, float(label.max() - zero))
        right.plot(span, span, color=GREY, linewidth=0.8)
        bars = std if np.isfinite(std).all() else None
        right.errorbar(label - zero, energy - zero, bars, fmt="o", color=BLUE, markersize=3, elinewidth=0.8)
        right.set(xlabel="teacher, kcal/mol", ylabel="student, kcal/mol", title=f"{len(label)} geometries of the test")
