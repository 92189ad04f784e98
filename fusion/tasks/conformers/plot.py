"""Picture of conformers: populations over relative energies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusion.plotting import BLUE, picture


def draw(part: Mapping[str, Any], path: Path) -> None:
    """Draw the conformers of result.json."""
    rows = part["conformers"]
    energies = [row["relative_kcal_mol"] for row in rows]
    shares = [100 * row["population"] for row in rows]
    with picture(path, size=(6.0, 3.6)) as figure:
        axes = figure.subplots()
        axes.vlines(energies, 0, shares, color=BLUE)
        axes.plot(energies, shares, "o", color=BLUE)
        axes.set(
            xlabel="relative energy, kcal/mol",
            ylabel=f"population at {part['temperature_k']:g} K, %",
            ylim=(0, None),
            xlim=(-0.05 * max(1.0, max(energies)), 1.05 * max(1.0, max(energies))),
        )
