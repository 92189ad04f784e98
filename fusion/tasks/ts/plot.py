"""`path.png` and `irc.png`: energy along a band of images, and along the reaction coordinate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fusion.chemistry import units
from fusion.plotting import BLUE, GREY, ORANGE, picture, title
from fusion.runs.results import read_result

_KCAL, _KJ = units.KCAL_MOL_PER_HARTREE, units.KJ_MOL_PER_HARTREE


def draw_band(directory: Path, path: Path) -> None:
    """Draw the images of a band with a spline through their energies and forces, and the transition state, from
    result.json and path.extxyz; nothing if these are missing."""
    result = read_result(directory) or {}
    band = result.get("path")
    frames = directory / "path.extxyz"
    if not band or not frames.is_file():
        return
    from ase.io import read
    from ase.utils.forcecurve import fit_images

    energies = np.array(band["energies_hartree"])
    lengths = np.array(band["lengths_angstrom"])
    relative = (energies - energies[0]) * _KCAL
    with picture(path) as figure:
        axes = _axes(figure, f"{title(result, directory)} · reaction path")
        fit = fit_images(read(frames, ":", do_not_split_by_at_sign=True))
        smooth = np.array(fit.fit_energies) * units.HARTREE_PER_EV * _KCAL
        axes.plot(fit.fit_path, smooth, color=BLUE, lw=1.2, alpha=0.6)
        spreads = np.array(band.get("relative_std_hartree") or np.zeros(len(energies))) * _KCAL
        if spreads.any():
            spread, label = np.interp(fit.fit_path, lengths, spreads), "± model spread"
            axes.fill_between(fit.fit_path, smooth - spread, smooth + spread, color=BLUE, alpha=0.15, lw=0, label=label)
        filled = BLUE if band["converged"] else "white"
        label = "images" if band["converged"] else "images (band not converged)"
        axes.plot(lengths, relative, "o", color=BLUE, mfc=filled, ms=5, label=label)
        _mark(axes, result, lengths[band["top_image"] - 1], energies[0])
        axes.set_xlabel("path length / Å")
        axes.set_ylabel("energy − reactant / kcal mol⁻¹")
        axes.legend(loc="best")


def draw_irc(directory: Path, path: Path) -> None:
    """Draw the energy along the intrinsic reaction coordinate, with the relaxed ends as lines, from result.json."""
    result = read_result(directory) or {}
    irc = result.get("irc")
    if not irc:
        return
    energies, s = np.array(irc["energies_hartree"]), np.array(irc["s_bohr_sqrt_dalton"])
    zero = irc["backward"]["energy_hartree"]
    with picture(path) as figure:
        axes = _axes(figure, f"{title(result, directory)} · intrinsic reaction coordinate")
        axes.plot(s, (energies - zero) * _KCAL, ".-", color=BLUE, lw=1.0, ms=4, label="path")
        for direction, x in (("backward", s[0]), ("forward", s[-1])):
            end = irc[direction]
            name = end.get("is") or f"{direction} minimum"
            height = (end["energy_hartree"] - zero) * _KCAL
            axes.axhline(height, color=GREY, lw=0.8, ls="--")
            align = "left" if direction == "backward" else "right"
            axes.annotate(name, (x, height), (0, -11), textcoords="offset points", ha=align, fontsize=8, color=GREY)
        _mark(axes, result, 0.0, zero)
        axes.set_xlabel("s / bohr dalton$^{1/2}$")
        axes.set_ylabel(f"energy − {irc['backward'].get('is') or 'backward minimum'} / kcal mol⁻¹")


def _axes(figure: Any, text: str) -> Any:
    axes = figure.subplots()
    figure.suptitle(text, x=0.02, ha="left", fontsize=11)
    scales = (lambda kcal: kcal * _KJ / _KCAL, lambda kilojoule: kilojoule * _KCAL / _KJ)
    axes.secondary_yaxis("right", functions=scales).set_ylabel("kJ mol⁻¹")
    axes.margins(y=0.18)
    return axes


def _mark(axes: Any, result: dict[str, Any], x: float, zero: float) -> None:
    """Draw the transition state of the result at `x` with its height; hollow if it is not proven."""
    transition_state, energy = result.get("transition_state"), (result.get("energy") or {}).get("value")
    if not transition_state or energy is None:
        return
    height, proven = energy - zero, result.get("status") == "ok" or "proof" in transition_state
    label = "transition state" if proven else "end of the search"
    axes.plot([x], [height * _KCAL], "*", color=ORANGE, mfc=ORANGE if proven else "white", ms=12, label=label)
    text = f"{height * _KCAL:.2f} kcal/mol\n{height * _KJ:.2f} kJ/mol"
    if "imaginary_cm1" in transition_state and proven:
        text += f"\n{-transition_state['imaginary_cm1']:.0f}i cm⁻¹"
    low, high = axes.get_xlim()
    side = -1 if x > low + 0.6 * (high - low) else 1  # away from the edge
    align = "left" if side > 0 else "right"
    offset = (10 * side, 2)
    axes.annotate(text, (x, height * _KCAL), offset, textcoords="offset points", fontsize=8, va="bottom", ha=align)
