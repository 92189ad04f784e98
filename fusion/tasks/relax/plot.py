"""`relaxation.png`: energy and largest force against the step of a relaxation, from its trajectory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusion.chemistry import units
from fusion.plotting import BLUE, GREY, ORANGE, picture, title
from fusion.runs.results import read_result
from fusion.tasks.relax.relaxation import short

_NOISE = 2.0
"""Error bars above which a force is no noise."""


@dataclass(frozen=True)
class Series:
    """Energies (hartree) and largest forces (hartree/bohr) of all steps with their errors, nan where there is none."""

    energies: np.ndarray
    forces: np.ndarray
    energies_stderr: np.ndarray
    forces_stderr: np.ndarray

    @property
    def noisy(self) -> bool:
        """True if the forces have error bars."""
        return bool(np.isfinite(self.forces_stderr).any())


def draw(trajectory: Path, path: Path) -> None:
    """Draw the picture from an extxyz file whose comment lines have `energy` (eV) and
    `largest_force_hartree_per_bohr`, perhaps with errors; nothing if there are fewer than two frames."""
    data = series(trajectory) if trajectory.is_file() else None
    if data is None or len(data.energies) < 2:
        return
    relaxation = (read_result(trajectory.parent) or {}).get("relaxation") or {}
    fmax, averaged = relaxation.get("fmax_hartree_per_bohr"), relaxation.get("averaged_positions")
    steps = np.arange(len(data.energies))
    with picture(path, (6.5, 5.0)) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True)
        figure.suptitle(title(read_result(trajectory.parent) or {}, trajectory.parent), x=0.02, ha="left", fontsize=11)
        _energies(upper, steps, data)
        _forces(lower, steps, data, fmax)
        if averaged:
            for axes in (upper, lower):
                label = "averaged positions" if axes is lower else None
                axes.axvspan(steps[-1] - averaged - 0.5, steps[-1] - 0.5, color=GREY, alpha=0.15, lw=0, label=label)
        if lower.get_legend_handles_labels()[0]:
            lower.legend(loc="upper right")
        lower.set_xlabel("step")
        lower.xaxis.get_major_locator().set_params(integer=True)


def _energies(axes: Any, steps: np.ndarray, data: Series) -> None:
    last, marker = data.energies[-1], "." if len(steps) <= 60 else None
    scale = units.KCAL_MOL_PER_HARTREE
    errors = scale * data.energies_stderr if np.isfinite(data.energies_stderr).any() else None
    axes.errorbar(steps, scale * (data.energies - last), errors, color=BLUE, marker=marker, elinewidth=0.8)
    axes.set_ylabel("energy − last / kcal mol⁻¹")
    axes.text(0.99, 0.95, f"last: {last:.6f} Ha", transform=axes.transAxes, ha="right", va="top")


def _forces(axes: Any, steps: np.ndarray, data: Series, fmax: float | None) -> None:
    """Forces on a logarithmic scale, or with error bars on a linear one: noise goes down to zero."""
    marker = "." if len(steps) <= 60 else None
    if data.noisy:
        axes.errorbar(steps, data.forces, data.forces_stderr, color=ORANGE, marker=marker, elinewidth=0.8)
        bound = np.maximum(_NOISE * data.forces_stderr, fmax or 0.0)
        axes.plot(steps, bound, color=GREY, ls="--", lw=1.0, label=f"{_NOISE:g} standard errors")
        axes.set_ylim(bottom=0.0)
    else:
        axes.semilogy(steps, np.maximum(data.forces, 1e-12), color=ORANGE, marker=marker)
        if fmax is not None:
            axes.axhline(fmax, color=GREY, ls="--", lw=1.0, label=f"threshold: {short(fmax)} Ha/bohr")
    axes.set_ylabel("largest force / Ha bohr⁻¹")


def series(trajectory: Path) -> Series:
    """Values of all complete frames, from their comment lines."""
    from ase.io.extxyz import key_val_str_to_dict

    columns: list[list[float]] = []
    with trajectory.open() as file:
        while (count := file.readline().strip()).isdigit():
            comment = file.readline()
            atoms = [file.readline() for _ in range(int(count))]
            if not atoms[-1].endswith("\n"):  # incomplete after a kill
                break
            info = key_val_str_to_dict(comment)
            names = ("energy_stderr_hartree", "largest_force_stderr_hartree_per_bohr")
            errors = [float(info.get(name, "nan")) for name in names]
            energy = float(info["energy"]) * units.HARTREE_PER_EV
            columns.append([energy, float(info["largest_force_hartree_per_bohr"]), *errors])
    return Series(*np.array(columns, dtype=float).reshape(-1, 4).T)
