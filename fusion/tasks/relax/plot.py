"""`relaxation.png`: energy and largest force against the step of a relaxation, from its trajectory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fusion.chemistry import units
from fusion.plotting import BLUE, GREY, ORANGE, picture, title
from fusion.runs.results import read_result
from fusion.tasks.relax.relaxation import short


def draw(trajectory: Path, path: Path) -> None:
    """Draw the picture from an extxyz file whose comment lines have `energy` (eV) and
    `largest_force_hartree_per_bohr`; nothing if there are fewer than two frames."""
    energies, forces = series(trajectory) if trajectory.is_file() else (np.zeros(0), np.zeros(0))
    if len(energies) < 2:
        return
    result = read_result(trajectory.parent) or {}
    fmax = (result.get("relaxation") or {}).get("fmax_hartree_per_bohr")
    steps = np.arange(len(energies))
    marker = "." if len(steps) <= 60 else None
    with picture(path, (6.5, 5.0)) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True)
        figure.suptitle(title(result, trajectory.parent), x=0.02, ha="left", fontsize=11)
        upper.plot(steps, (energies - energies[-1]) * units.KCAL_MOL_PER_HARTREE, color=BLUE, marker=marker)
        upper.set_ylabel("energy − last / kcal mol⁻¹")
        upper.text(0.99, 0.95, f"last: {energies[-1]:.6f} Ha", transform=upper.transAxes, ha="right", va="top")
        lower.semilogy(steps, np.maximum(forces, 1e-12), color=ORANGE, marker=marker)
        if fmax is not None:
            lower.axhline(fmax, color=GREY, ls="--", lw=1.0, label=f"threshold: {short(fmax)} Ha/bohr")
            lower.legend(loc="upper right")
        lower.set_ylabel("largest force / Ha bohr⁻¹")
        lower.set_xlabel("step")
        lower.xaxis.get_major_locator().set_params(integer=True)


def series(trajectory: Path) -> tuple[np.ndarray, np.ndarray]:
    """Energies (hartree) and largest forces (hartree/bohr) of all complete frames, from their comment lines."""
    from ase.io.extxyz import key_val_str_to_dict

    energies, forces = [], []
    with trajectory.open() as file:
        while (count := file.readline().strip()).isdigit():
            comment = file.readline()
            atoms = [file.readline() for _ in range(int(count))]
            if not atoms[-1].endswith("\n"):  # incomplete after a kill
                break
            info = key_val_str_to_dict(comment)
            energies.append(float(info["energy"]) * units.HARTREE_PER_EV)
            forces.append(float(info["largest_force_hartree_per_bohr"]))
    return np.array(energies), np.array(forces)
