"""`energy.png` of a training run, drawn from the files in its directory: energy and variance against iteration."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusion.console.format import plus_minus
from fusion.errors import InputError
from fusion.plotting import picture, title
from fusion.runs.metrics_table import NUMBERS, PHASES, read_metrics
from fusion.runs.results import read_result

_NAMES = {"pretrain": "pretraining", "optimise": "optimisation", "evaluate": "evaluation"}
_COLOURS = {"pretrain": "#8c8c8c", "optimise": "#1f5fa8", "evaluate": "#b3541e"}
_REFERENCE, _HARTREE_FOCK = "#1b7a43", "#7a4fa0"


@dataclass(frozen=True)
class Curve:
    """One phase of a run: `x` counts iterations from the start of optimisation; hartree, variance in hartree^2."""

    phase: str
    x: np.ndarray
    energy: np.ndarray
    stderr: np.ndarray
    variance: np.ndarray


@dataclass(frozen=True)
class Level:
    """An energy (hartree) that the run is compared with, drawn as a horizontal line."""

    energy: float
    label: str
    colour: str


def has_energies(directory: Path) -> bool:
    """True if `metrics.csv` has a finite energy, so that there is something to draw."""
    return any(math.isfinite(row["energy"]) for row in read_metrics(directory))


def energy_curve(directory: Path) -> Path:
    """Draw `energy.png` from `metrics.csv` and, if there is one, `result.json`; return its path.

    Upper panel: the energy in hartree. Middle: the smoothed energy with its error band, in mHa relative to the
    reference or, without one, to the final energy. Lower: variance of the local energy. Raises InputError if no energy
    is recorded.
    """
    curves = _curves(read_metrics(directory))
    if not curves:
        raise InputError(f"{directory / 'metrics.csv'} records no energies to draw")
    result = read_result(directory) or {}
    reference, hartree_fock = _levels(result)
    smooth = [_smooth(curve) for curve in curves]
    with picture(directory / "energy.png", (7.5, 7.5)) as figure:
        overview, detail, variance = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
        figure.suptitle(title(result, directory), x=0.02, ha="left", fontsize=11)
        _draw_overview(overview, curves, smooth, [level for level in (reference, hartree_fock) if level])
        _draw_detail(detail, curves, smooth, reference, _final(result))
        _draw_variance(variance, curves)
        for axes in (overview, detail, variance):
            _shade_evaluation(axes, curves)
    return directory / "energy.png"


def _curves(rows: list[dict[str, Any]]) -> list[Curve]:
    """The phases with a finite energy, one after another on one axis even if the steps of each phase start at zero."""
    curves: list[Curve] = []
    end = 0.0
    for phase in PHASES:
        part = [row for row in rows if row["phase"] == phase]
        if not any(math.isfinite(row["energy"]) for row in part):
            continue
        steps = np.array([row["step"] for row in part])
        x = steps - steps[0] + end
        end = x[-1] + (x[-1] - x[-2] if len(x) > 1 else 1.0)
        curves.append(Curve(phase, x, *(np.array([row[name] for row in part]) for name in NUMBERS)))
    return curves


def _levels(result: dict[str, Any]) -> tuple[Level | None, Level | None]:
    """The reference and the Hartree-Fock energy, as far as the result has them."""
    reference, hartree_fock = result.get("reference"), (result.get("vmc") or {}).get("hartree_fock")
    exact = mean_field = None
    if reference:
        source = textwrap.shorten(reference.get("source") or "source unknown", 45, placeholder=" …")
        exact = Level(reference["value"], f"reference: {source}", _REFERENCE)
    if hartree_fock:
        basis = f", {hartree_fock['basis']}" if hartree_fock.get("basis") else ""
        mean_field = Level(hartree_fock["energy_hartree"], f"Hartree–Fock{basis}", _HARTREE_FOCK)
    return exact, mean_field


def _final(result: dict[str, Any]) -> tuple[float, float] | None:
    """Energy and error bar of a run with an evaluation, hartree; None for another."""
    energy = result.get("energy") or {}
    value, error = energy.get("value"), energy.get("stderr")
    if value is None or error is None or not math.isfinite(value + error):
        return None
    return value, error


@dataclass(frozen=True)
class _Smooth:
    """A curve averaged over `window` iterations; `error` is the statistical error of an average, hartree."""

    window: int
    x: np.ndarray
    energy: np.ndarray
    error: np.ndarray


def _smooth(curve: Curve) -> _Smooth:
    """Averages at up to 600 points: means in the evaluation, otherwise medians, which resist single bad iterations.

    The window is centred; in an optimisation it grows from one iteration at the start, where the energy falls fast.
    """
    number = len(curve.x)
    window = max(1, number // 30)
    places = np.unique(np.linspace(0, number - 1, min(number, 600)).round().astype(int))
    average = np.nanmean if curve.phase == "evaluate" else np.nanmedian
    energy, error = np.full(len(places), np.nan), np.full(len(places), np.nan)
    for i, place in enumerate(places):
        half = window // 2 if curve.phase == "evaluate" else min(window // 2, place)
        part = slice(max(0, place - half), place + half + 1)
        finite = np.isfinite(curve.energy[part])
        if finite.any():
            energy[i] = average(curve.energy[part][finite])
            error[i] = np.median(curve.stderr[part][finite]) / math.sqrt(finite.sum())
    return _Smooth(window, curve.x[places], energy, error)


def _limits(low: np.ndarray, high: np.ndarray, include: Sequence[float]) -> tuple[float, float]:
    """A range of y with a margin for the lines `low` and `high`, without their outermost 2 % above and 1 % below."""
    ends = [np.nanpercentile(low, 1), np.nanpercentile(high, 98), *include]
    margin = 0.07 * (max(ends) - min(ends)) or 1e-3 * max(1.0, abs(ends[0]))
    return min(ends) - margin, max(ends) + margin


def _marker(curve: Curve) -> str | None:
    """Marker for runs of few iterations; None for longer ones, which are drawn as lines."""
    return "." if len(curve.x) <= 30 else None


def _draw_overview(axes: Any, curves: list[Curve], smooth: list[_Smooth], levels: list[Level]) -> None:
    """Draw the whole run in hartree, cut so that spikes of the first steps do not flatten the remaining curve."""
    for curve, mean in zip(curves, smooth, strict=True):
        colour, kind = _COLOURS[curve.phase], "mean" if curve.phase == "evaluate" else "median"
        label = _NAMES[curve.phase] + (f", {kind} of {mean.window}" if mean.window > 1 else "")
        axes.plot(curve.x, curve.energy, color=colour, lw=0.5, alpha=0.35)
        axes.plot(mean.x, mean.energy, color=colour, lw=1.4, marker=_marker(curve), label=label)
    for level in levels:
        axes.axhline(level.energy, color=level.colour, lw=1.0, ls="--", label=f"{level.label} ({level.energy:.5f} Ha)")
    means, settled = np.concatenate([mean.energy for mean in smooth]), curves[-1].energy[len(curves[-1].energy) // 2 :]
    spread = np.nanpercentile(settled, [1, 99]) if np.isfinite(settled).any() else []
    axes.set_ylim(*_limits(means, means, [*spread, *(level.energy for level in levels)]))
    axes.set_ylabel("energy / Ha")
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2)


def _draw_detail(
    axes: Any, curves: list[Curve], smooth: list[_Smooth], reference: Level | None, final: tuple[float, float] | None
) -> None:
    """Draw the smoothed energy in mHa, relative to the reference on a symmetric logarithmic scale, or relative to the
    final energy on a linear scale."""
    last = curves[-1].energy[np.isfinite(curves[-1].energy)]
    zero = reference.energy if reference else final[0] if final else float(np.mean(last[-math.ceil(len(last) / 4) :]))
    for curve, mean in zip(curves, smooth, strict=True):
        value, error, colour = 1000 * (mean.energy - zero), 1000 * mean.error, _COLOURS[curve.phase]
        axes.fill_between(mean.x, value - error, value + error, color=colour, alpha=0.25, lw=0)
        axes.plot(mean.x, value, color=colour, lw=1.2, marker=_marker(curve))
    axes.axhline(0.0, color=reference.colour if reference else "#444444", lw=1.0, ls="--")
    value = 1000 * (np.concatenate([mean.energy for mean in smooth]) - zero)
    error = 1000 * np.nan_to_num(np.concatenate([mean.error for mean in smooth]))
    if reference:
        axes.set_yscale("symlog", linthresh=1.0, linscale=0.7)
        axes.yaxis.set_major_formatter(lambda tick, _: f"{tick:g}")
        axes.set_ylim(min(1.3 * np.nanpercentile(value - error, 1), -1.0), max(1.3 * np.nanmax(value + error), 2.0))
        axes.set_ylabel("energy − reference / mHa")
    else:
        end = slice(len(value) // 3 if len(value) > 30 else 0, None)
        axes.set_ylim(*_limits((value - error)[end], (value + error)[end], [0.0]))
        axes.set_ylabel(f"energy − {'final' if final else 'last quarter'} / mHa")
    if final and curves[-1].phase == "evaluate":
        _draw_final(axes, curves[-1], 1000 * (final[0] - zero), 1000 * final[1])


def _draw_final(axes: Any, curve: Curve, value: float, error: float) -> None:
    """Draw the result, mean and error bar of the evaluation, over its iterations."""
    ends = [curve.x[0] - 0.5, curve.x[-1] + 0.5]
    band = axes.fill_between(ends, value - error, value + error, color="black", alpha=0.3, lw=0)
    (mean,) = axes.plot(ends, [value, value], color="black", lw=1.2)
    axes.legend([(band, mean)], [f"evaluation: {plus_minus(value, error)} mHa"], loc="upper right")


def _draw_variance(axes: Any, curves: list[Curve]) -> None:
    """Draw the variance of the local energy; zero (an exact wavefunction) is left out on the logarithmic axis."""
    for curve in curves:
        positive = np.where(curve.variance > 0, curve.variance, np.nan)
        axes.plot(curve.x, positive, color=_COLOURS[curve.phase], lw=0.5, marker=_marker(curve))
    if any((curve.variance > 0).any() for curve in curves):
        axes.set_yscale("log")
    axes.set_ylabel("variance of $E_\\mathrm{loc}$ / Ha²")
    axes.set_xlabel("iteration")
    axes.xaxis.get_major_locator().set_params(integer=True)


def _shade_evaluation(axes: Any, curves: list[Curve]) -> None:
    for curve in curves:
        if curve.phase == "evaluate":
            axes.axvspan(curve.x[0] - 0.5, curve.x[-1] + 0.5, color=_COLOURS["evaluate"], alpha=0.07, lw=0)
