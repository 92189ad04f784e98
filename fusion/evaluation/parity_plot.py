"""`parity.png`: predictions against labels and histograms of the errors, for energies, forces, stress and dipoles."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase.data import chemical_symbols

from fusion.evaluation.errors import KCAL, KCAL_ANGSTROM
from fusion.evaluation.tables import FORCES as ARRAYS
from fusion.evaluation.tables import STRUCTURES as TABLE
from fusion.evaluation.tensors import KINDS
from fusion.files import bounds
from fusion.plotting import BLUE, GREEN, GREY, ORANGE, PURPLE, picture, title
from fusion.runs.results import read_result

_COLOURS = {"H": GREY, "C": "#333333", "N": BLUE, "O": ORANGE, "S": "#b8960c", "F": GREEN, "Cl": PURPLE}
_MOST_POINTS = 20000


def draw(directory: Path) -> Path | None:
    """Draw `parity.png` from structures.csv and the arrays; None if they are missing or have nothing to compare.

    Energies are relative to the mean label of each formula, so that structures of different size share an axis.
    """
    if not (directory / TABLE).is_file():
        return None
    result = read_result(directory) or {}
    evaluation = result.get("evaluation") or result.get("training") or {}
    energies, forces = _energies(directory / TABLE, evaluation), _forces(directory / ARRAYS)
    others = [(kind, part) for kind in KINDS if (part := _components(directory / kind.file, kind.scale)) is not None]
    panels = [part for part in (energies, forces, *others) if part is not None]
    if not panels:
        return None
    with picture(directory / "parity.png", (8.0, 1.0 + 3.4 * len(panels))) as figure:
        data = Path(evaluation.get("data") or directory.resolve().name).name
        figure.suptitle(f"{title(result | {'system': None}, directory)} · {data}", x=0.02, ha="left", fontsize=11)
        axes = iter(figure.subplots(len(panels), 2, squeeze=False))
        if energies is not None:
            left, right = next(axes)
            _draw_energies(left, right, energies)
        if forces is not None:
            left, right = next(axes)
            _draw_forces(left, right, *forces)
        for kind, components in others:
            left, right = next(axes)
            _draw_components(left, right, *components, kind.name, kind.text)
    return directory / "parity.png"


class Energies(NamedTuple):
    """Energies in kcal/mol relative to the mean label of each formula; `correction` to the predictions, in words."""

    label: np.ndarray
    predicted: np.ndarray
    outside: np.ndarray
    unseen: np.ndarray
    """Structures of molecules that are absent from the training set; their errors are of another kind."""
    correction: str


def _energies(path: Path, evaluation: dict[str, Any]) -> Energies | None:
    """Read energies from structures.csv; subtract constants per element if the evaluation `evaluation` does."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label_hartree"] and row["energy_hartree"]]
    if not rows:
        return None
    label, energy = (np.array([float(row[key]) for row in rows]) for key in ("label_hartree", "energy_hartree"))
    outside, formulas = (np.array([row[key] for row in rows]) for key in ("outside", "formula"))
    unseen, correction = np.array([row.get("part") == "unseen" for row in rows]), ""
    if (evaluation.get("energy") or {}).get("counted") == "composition_fitted":
        energy = label + np.array([float(row["error_counted_hartree"]) for row in rows])
        correction = "less element constants "
    zero = np.zeros(len(rows))
    for formula in set(formulas):
        zero[formulas == formula] = label[formulas == formula].mean()
    return Energies((label - zero) * KCAL, (energy - zero) * KCAL, outside == "1", unseen, correction)


def _forces(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Labels and predictions (atoms, 3) in kcal/mol/Angstrom and atomic numbers; a sample if there are very many."""
    if not path.is_file():
        return None
    content = bounds.npz(path)
    label, predicted, numbers = (content[name] for name in ("label", "predicted", "numbers"))
    labelled = np.flatnonzero(np.isfinite(label + predicted).all(axis=1))
    labelled = labelled[:: max(1, 3 * len(labelled) // _MOST_POINTS)]
    return label[labelled] * KCAL_ANGSTROM, predicted[labelled] * KCAL_ANGSTROM, numbers[labelled]


def _components(path: Path, unit: float) -> tuple[np.ndarray, np.ndarray] | None:
    """All components of labels and predictions, flattened, in their unit; None if there are none."""
    if not path.is_file():
        return None
    content = bounds.npz(path)
    label, predicted = (content[name].ravel() * unit for name in ("label", "predicted"))
    return (label, predicted) if len(label) else None


def _draw_energies(parity: Any, errors: Any, energies: Energies) -> None:
    label, predicted, outside, unseen, correction = energies
    counted = ~unseen if not unseen.all() else unseen
    parity.scatter(label[counted], predicted[counted], s=9, color=BLUE, lw=0, alpha=0.6, rasterized=True)
    if not counted.all():
        new = {"color": GREEN, "label": "new molecules (beside: the others)"}
        parity.scatter(label[unseen], predicted[unseen], s=9, lw=0, alpha=0.6, rasterized=True, **new)
    if outside.any():
        marked = "outside of the model's domain"
        parity.scatter(label[outside], predicted[outside], s=22, facecolors="none", edgecolors=ORANGE, label=marked)
    if outside.any() or not counted.all():
        parity.legend(loc="best")
    _diagonal(parity, label)
    parity.set_xlabel("label − mean of its formula / kcal mol$^{-1}$")
    parity.set_ylabel("energy − mean label of its formula / kcal mol$^{-1}$")
    _histogram(errors, (predicted - label)[counted], f"error of the energy {correction}/ kcal mol$^{{-1}}$", BLUE)


def _draw_forces(parity: Any, errors: Any, label: np.ndarray, predicted: np.ndarray, numbers: np.ndarray) -> None:
    for number in np.unique(numbers).tolist():
        symbol, chosen = chemical_symbols[number], numbers == number
        colour = _COLOURS.get(symbol)
        parity.scatter(
            label[chosen], predicted[chosen], s=5, lw=0, alpha=0.5, color=colour, label=symbol, rasterized=True
        )
    _diagonal(parity, label)
    parity.legend(loc="best", markerscale=2.5, ncols=2)
    parity.set_xlabel("force component, label / kcal mol$^{-1}$ Å$^{-1}$")
    parity.set_ylabel("force / kcal mol$^{-1}$ Å$^{-1}$")
    _histogram(errors, (predicted - label).ravel(), "error of a force component / kcal mol$^{-1}$ Å$^{-1}$", GREEN)


def _draw_components(
    parity: Any, errors: Any, label: np.ndarray, predicted: np.ndarray, quantity: str, unit: str
) -> None:
    parity.scatter(label, predicted, s=7, color=PURPLE, lw=0, alpha=0.6, rasterized=True)
    _diagonal(parity, label)
    parity.set_xlabel(f"{quantity} component, label / {unit}")
    parity.set_ylabel(f"{quantity} / {unit}")
    _histogram(errors, predicted - label, f"error of a {quantity} component / {unit}", PURPLE)


def _diagonal(axes: Any, label: np.ndarray) -> None:
    ends = [float(label.min()), float(label.max())]
    axes.plot(ends, ends, color="black", lw=0.8, ls="--", zorder=0)


def _histogram(axes: Any, errors: np.ndarray, name: str, colour: str) -> None:
    mae, rmse = np.mean(np.abs(errors)), np.sqrt(np.mean(errors**2))
    low, high = np.percentile(errors, [0.5, 99.5]) if len(errors) > 200 else (errors.min(), errors.max())
    edges = np.linspace(low, high, 41) if high > low else 10
    axes.hist(errors, bins=edges, color=colour, alpha=0.7)
    axes.axvline(0.0, color="black", lw=0.8, ls="--")
    axes.set_title(f"MAE {mae:.3g}, RMSE {rmse:.3g}", fontsize=9)
    axes.set_xlabel(name)
    axes.set_ylabel("number")
    axes.yaxis.get_major_locator().set_params(integer=True)
