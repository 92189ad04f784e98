"""`infrared.png` and `raman.png`: broadened spectra of a vibrational analysis, with their lines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.plotting import BLUE, GREEN, ORANGE, picture, title
from fusion.runs.results import read_result
from fusion.tasks.vibrations.spectrum import axis, broadened, lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HALF_WIDTH = 10.0  # cm^-1, if the result does not state one
_LABELLED = 0.03  # of the highest peak
_MOST_LABELS = 12
_LABEL_SIZE = (0.04, 0.05)  # as fractions of the picture's width and height


@dataclass(frozen=True)
class _Kind:
    name: str
    key: str
    curve: str
    stick: str
    colour: str
    scale: float = 1.0


_INFRARED = _Kind("infrared", "ir_intensities_km_per_mol", "absorption / km mol⁻¹ cm", "km mol⁻¹", BLUE)
_RAMAN = _Kind(
    "Raman",
    "raman_cross_sections_cm2_per_sr",
    "cross-section /\n10⁻³⁰ cm² sr⁻¹ per cm⁻¹",
    "10⁻³⁰ cm² sr⁻¹",
    GREEN,
    1e30,
)


def draw(directory: Path, path: Path) -> None:
    """Draw the infrared spectrum of the real modes from `result.json`; nothing if it has no intensities."""
    _draw(directory, path, _INFRARED)


def draw_raman(directory: Path, path: Path) -> None:
    """Draw the Raman spectrum, Stokes lines at the run's laser wavelength and temperature; nothing if there is none."""
    _draw(directory, path, _RAMAN)


def _draw(directory: Path, path: Path, kind: _Kind) -> None:
    result = read_result(directory) or {}
    wavenumbers, strengths = lines(result, kind.key)
    if len(strengths) == 0:
        return
    strengths = strengths * kind.scale
    half_width = float((result.get("spectrum") or {}).get("half_width_cm1", _HALF_WIDTH))
    places = axis(result, half_width)
    with picture(path, (7.5, 4.2)) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        figure.suptitle(_title(result, directory, kind), x=0.02, ha="left", fontsize=10)
        curve = broadened(places, wavenumbers, strengths, half_width)
        upper.plot(places, curve, color=kind.colour, lw=1.2)
        upper.fill_between(places, curve, color=kind.colour, alpha=0.15, lw=0)
        upper.set_ylabel(kind.curve)
        upper.set_ylim(0.0, 1.15 * max(curve.max(), 1e-9))
        _label(upper, places, curve)
        lower.vlines(wavenumbers, 0.0, strengths, color=kind.colour, lw=1.4)
        lower.set_ylim(0.0, 1.5 * max(strengths.max(), 1e-9))
        lower.set_ylabel(kind.stick, fontsize=8)
        _observed(lower, upper, result, places)
        lower.set_xlabel("wavenumber / cm⁻¹" if kind is _INFRARED else "Raman shift / cm⁻¹")
        lower.set_xlim(places[-1], places[0])


def _title(result: dict[str, Any], directory: Path, kind: _Kind) -> str:
    """Title with molecule, methods and kind of spectrum, and its settings on the second line."""
    settings = result.get("spectrum") or {}
    other = (result.get("intensities") or {}).get("label")
    first = f"{title(result, directory)} · {kind.name}, harmonic"
    if other:
        first += f" · {'dipoles' if kind is _INFRARED else 'polarizabilities'} of {other}"
    second = [f"half width {settings.get('half_width_cm1', _HALF_WIDTH):g} cm⁻¹"]
    if kind is _RAMAN:
        second.insert(0, f"laser {settings['laser_nm']:g} nm, {settings['temperature_k']:g} K")
    scale = float(settings.get("scale", 1.0))
    second.append("not scaled" if scale == 1.0 else f"wavenumbers scaled by {scale:g}")
    return f"{first}\n{', '.join(second)}"


def _label(axes: Axes, places: np.ndarray, curve: np.ndarray) -> None:
    """Write wavenumbers above the highest peaks of the curve, unless the labels would overlap."""
    size = np.array(_LABEL_SIZE) * (places[-1] - places[0], axes.get_ylim()[1])
    peaks = np.flatnonzero((curve[1:-1] > curve[:-2]) & (curve[1:-1] >= curve[2:])) + 1
    done: list[np.ndarray] = []
    for index in peaks[np.argsort(-curve[peaks])]:
        spot = np.array([places[index], curve[index]])
        if len(done) == _MOST_LABELS or curve[index] < _LABELLED * curve.max():
            return
        if all((np.abs(spot - other) > size).any() for other in done):
            text, place = f"{spot[0]:.0f}", (float(spot[0]), float(spot[1]))
            axes.annotate(text, place, (0, 3), textcoords="offset points", ha="center", fontsize=7)
            done.append(spot)


def _observed(lower: Axes, upper: Axes, result: dict[str, Any], places: np.ndarray) -> None:
    """Draw observed fundamentals from the top of the lines' panel, with a legend above the picture."""
    observed = result.get("experiment") or {}
    values = [value for value in observed.get("fundamentals_cm1", []) if places[0] <= value <= places[-1]]
    if values:
        top = lower.get_ylim()[1]
        lines = lower.vlines(values, 0.78 * top, top, color=ORANGE, lw=1.4)
        text = f"observed fundamentals: {observed['source']}"
        upper.legend([lines], [text], loc="lower right", bbox_to_anchor=(1.0, 0.99), fontsize=7, borderaxespad=0.0)
