"""Predictions beside labels: what is kept of them, the measures of their difference, and how these are told."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from fusion import units
from fusion.results import Result, write_atomically
from fusion.system import System
from fusion.tasks.labelled.labels import Labelled

TABLE, ARRAYS = "structures.csv", "forces.npz"
KCAL = units.KCAL_MOL_PER_HARTREE
KCAL_ANGSTROM = units.KCAL_MOL_PER_HARTREE / units.ANGSTROM_PER_BOHR
_MEV = 1000.0 * units.EV_PER_HARTREE
_ENOUGH = 12
"""Force components that it takes to tell forces from gradients."""
_KINDS = 5
"""Reasons for leaving structures out that the terminal shows."""


class Predictions:
    """What a method says of labelled structures: energies (hartree), spreads, forces (hartree/bohr), problems."""

    def __init__(self, structures: Sequence[Labelled]) -> None:
        self.structures = structures
        number = len(structures)
        self.done = np.array([one.problem is not None for one in structures])
        self.energy, self.spread = np.full(number, np.nan), np.full(number, np.nan)
        self.outside = np.zeros(number, dtype=bool)
        self.failures: dict[int, str] = {}
        sizes = [len(one.system.symbols) if one.system is not None else 0 for one in structures]
        self.first = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
        self.forces, self.labels = np.full((self.first[-1], 3), np.nan), np.full((self.first[-1], 3), np.nan)
        for index, one in enumerate(structures):
            if one.forces is not None:
                self.labels[self._atoms(index)] = one.forces
        self.energy_labels = np.array([math.nan if one.energy is None else one.energy for one in structures])

    @property
    def good(self) -> int:
        """Structures that the method can be asked about."""
        return sum(one.problem is None for one in self.structures)

    def left(self) -> list[int]:
        """Indices of what is not yet calculated, large structures first."""
        return sorted(np.flatnonzero(~self.done).tolist(), key=lambda index: self.first[index] - self.first[index + 1])

    def system(self, index: int) -> System:
        system = self.structures[index].system
        assert system is not None
        return system

    def add(self, index: int, result: Result) -> None:
        """The result of one structure, a failed one too."""
        self.done[index] = True
        if result.status != "ok" or result.energy is None:
            self.failures[index] = result.message or result.status
            return
        self.energy[index] = result.energy
        self.spread[index] = math.nan if result.energy_std is None else result.energy_std
        self.outside[index] = bool((result.details.get("domain") or {}).get("outside"))
        if "forces" in result.properties:
            self.forces[self._atoms(index)] = result.properties["forces"]

    def force_correlation(self) -> float | None:
        """Pearson's correlation of the force components so far; None for too few."""
        both = np.isfinite(self.forces) & np.isfinite(self.labels)
        if both.sum() < _ENOUGH or not self.forces[both].std() * self.labels[both].std() > 0:
            return None
        return float(np.corrcoef(self.forces[both], self.labels[both])[0, 1])

    def energy_ratio(self) -> float | None:
        """Median ratio of label and prediction of the energies so far; None where they do not have one in common."""
        both = np.isfinite(self.energy) & np.isfinite(self.energy_labels) & (self.energy != 0)
        ratios = self.energy_labels[both] / self.energy[both]
        if not len(ratios) or np.ptp(ratios) > 0.02 * abs(ratios[0]):
            return None
        return float(np.median(ratios))

    def text(self) -> str:
        """For the progress line."""
        errors = np.abs(self.forces - self.labels)
        if np.isfinite(errors).any():
            return f"forces off by {np.nanmean(errors) * KCAL_ANGSTROM:.3g} kcal/mol/Å"
        return ""

    def worst(self) -> Labelled:
        """The structure whose energy, or forces, are furthest off."""
        errors = np.abs(self.energy - self.energy_labels)
        if not np.isfinite(errors).any():
            errors = self.force_errors()
        usable = np.flatnonzero([one.system is not None for one in self.structures])
        return self.structures[int(np.nanargmax(errors)) if np.isfinite(errors).any() else int(usable[0])]

    def force_errors(self) -> np.ndarray:
        """Mean absolute error of each structure's force components, hartree/bohr; nan where there is none."""
        errors = np.abs(self.forces - self.labels).mean(axis=1)
        return np.array(
            [
                errors[self._atoms(i)].mean() if self.first[i] < self.first[i + 1] else np.nan
                for i in range(len(self.done))
            ]
        )

    def numbers(self) -> np.ndarray:
        """Atomic numbers of all atoms of all structures."""
        parts = [one.system.numbers for one in self.structures if one.system is not None]
        return np.concatenate(parts) if parts else np.empty(0, dtype=int)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "names": [one.name for one in self.structures],
            "done": self.done,
            "energy": self.energy,
            "spread": self.spread,
            "outside": self.outside,
            "forces": self.forces,
            "failures": {str(index): text for index, text in self.failures.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.done, self.energy, self.spread = state["done"], state["energy"], state["spread"]
        self.outside, self.forces = state["outside"], state["forces"]
        self.failures = {int(index): text for index, text in state["failures"].items()}

    def _atoms(self, index: int) -> slice:
        return slice(int(self.first[index]), int(self.first[index + 1]))


def measure(predictions: Predictions) -> dict[str, Any]:
    """The `accuracy` part of result.json: errors are prediction less label, in kcal/mol (and Angstrom)."""
    found: dict[str, Any] = {"structures": len(predictions.structures), "compared": 0}
    difference = predictions.energy - predictions.energy_labels
    with_energy = np.flatnonzero(np.isfinite(difference)).tolist()
    with_forces = np.isfinite(predictions.force_errors())
    found["compared"] = int(np.sum(np.isfinite(difference) | with_forces))
    if len(with_energy):
        systems = [predictions.system(index) for index in with_energy]
        found["energy"] = _energy_errors(difference[with_energy] * KCAL, systems)
        found["energy"]["worst"] = predictions.worst().name
    if with_forces.any():
        found["forces"] = {"structures": int(with_forces.sum()), **_force_errors(predictions)}
        found["forces"]["correlation"] = predictions.force_correlation()
    if np.isfinite(predictions.spread).any() and len(with_energy):
        spread = predictions.spread[with_energy]
        found["spread"] = {"rms_kcal_mol": _rms(spread[np.isfinite(spread)] * KCAL)}
    found["outside"] = int(predictions.outside.sum())
    problems = [(one.name, one.problem) for one in predictions.structures if one.problem is not None]
    if problems:
        found["left_out"] = _grouped(problems)
    failed = [(predictions.structures[index].name, text) for index, text in sorted(predictions.failures.items())]
    if failed:
        found["failed"] = {"structures": len(failed), "first": f"{failed[0][0]}: {failed[0][1]}"}
    return found


def rows(found: dict[str, Any]) -> Iterator[list[str]]:
    """Lines for the terminal."""
    yield ["compared", f"{found['compared']} of {found['structures']}", "structures"]
    energy, forces = found.get("energy"), found.get("forces")
    if energy:
        yield [
            "energies, MAE",
            *_told(energy["total"], "kcal/mol"),
            f"largest {energy['total']['largest']:.3g}, {energy['worst']}",
        ]
        if "zero_fitted" in energy:
            yield ["  zero fitted", *_told(energy["zero_fitted"], "kcal/mol"), "less a constant for each element"]
        if "within_formula" in energy:
            yield ["  same formula", *_told(energy["within_formula"], "kcal/mol"), "less the mean of each formula"]
    if forces:
        yield ["forces, MAE", *_told(forces["total"], "kcal/mol/Å"), f"of {forces['structures']} structures"]
        for symbol, part in forces["by_element"].items():
            yield [f"  on {symbol}", *_told(part, "kcal/mol/Å"), f"{part['atoms']} atoms"]
    if "spread" in found:
        yield ["model spread", f"{found['spread']['rms_kcal_mol']:.3g} kcal/mol", "root mean square"]
    if found.get("outside"):
        yield ["OUTSIDE", f"{found['outside']} structures", "of what the model was trained on"]
    left_out = found.get("left_out", [])
    for group in left_out[:_KINDS]:
        yield ["LEFT OUT", f"{group['structures']} structures", f"{group['reason']} ({group['first']})"]
    if len(left_out) > _KINDS:
        rest = sum(group["structures"] for group in left_out[_KINDS:])
        yield ["LEFT OUT", f"{rest} structures", f"for {len(left_out) - _KINDS} more reasons, see {TABLE}"]


def write_files(directory: Path, predictions: Predictions) -> None:
    """structures.csv, a row for each structure of the file, and forces.npz, one for each atom: all in atomic units."""
    columns = ["structure", "formula", "atoms", "label_hartree", "energy_hartree", "energy_std_hartree"]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*columns, "forces_mae_hartree_per_bohr", "outside", "problem"])
    values = np.column_stack(
        [predictions.energy_labels, predictions.energy, predictions.spread, predictions.force_errors()]
    )
    for index, one in enumerate(predictions.structures):
        what = [one.system.formula, len(one.system.symbols)] if one.system is not None else ["", ""]
        numbers = [f"{value:.10f}" if math.isfinite(value) else "" for value in values[index]]
        problem = one.problem or predictions.failures.get(index, "")
        table.writerow([one.name, *what, *numbers, int(predictions.outside[index]), problem])
    write_atomically(directory / TABLE, text.getvalue())
    if np.isfinite(predictions.forces - predictions.labels).any():
        np.savez_compressed(
            directory / ARRAYS,
            numbers=predictions.numbers(),
            structure=np.repeat(np.arange(len(predictions.done)), np.diff(predictions.first)),
            label=predictions.labels,
            predicted=predictions.forces,
        )
    else:
        (directory / ARRAYS).unlink(missing_ok=True)


def zero_of_elements(difference: np.ndarray, systems: Sequence[System]) -> np.ndarray | None:
    """What of the differences (n,) a constant for each element explains, by least squares; None if that is all."""
    elements = sorted({symbol for system in systems for symbol in system.symbols})
    counts = np.array([[system.symbols.count(symbol) for symbol in elements] for system in systems], dtype=float)
    solution, _, rank, _ = np.linalg.lstsq(counts, difference, rcond=None)
    return counts @ solution if len(difference) > rank else None


def _energy_errors(difference: np.ndarray, systems: Sequence[System]) -> dict[str, Any]:
    atoms = np.array([len(system.symbols) for system in systems])
    found: dict[str, Any] = {"total": _measures(difference)}
    found["total"]["mae_mev_per_atom"] = float(np.mean(np.abs(difference) / atoms)) / KCAL * _MEV
    zero = zero_of_elements(difference, systems)
    if zero is not None:
        found["zero_fitted"] = _measures(difference - zero)
        found["shifted"] = _measures(difference - difference.mean())
    formulas = [system.formula for system in systems]
    several = {formula for formula, number in Counter(formulas).items() if number > 1}
    if several:
        rest = [
            difference[np.array(formulas) == formula] - difference[np.array(formulas) == formula].mean()
            for formula in sorted(several)
        ]
        found["within_formula"] = _measures(np.concatenate(rest))
    return found


def _force_errors(predictions: Predictions) -> dict[str, Any]:
    errors = (predictions.forces - predictions.labels) * KCAL_ANGSTROM
    known, numbers = np.isfinite(errors).all(axis=1), predictions.numbers()
    by_element = {
        chemical_symbols[number]: {"atoms": int(np.sum(known & (numbers == number)))}
        | _measures(errors[known & (numbers == number)].ravel())
        for number in np.unique(numbers[known]).tolist()
    }
    return {"total": _measures(errors[known].ravel()), "by_element": by_element}


def _measures(errors: np.ndarray) -> dict[str, float]:
    return {
        "mae": float(np.mean(np.abs(errors))),
        "rmse": _rms(errors),
        "mean": float(np.mean(errors)),
        "largest": float(np.max(np.abs(errors))),
    }


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else math.nan


def _told(measures: dict[str, float], unit: str) -> list[str]:
    return [f"{measures['mae']:.4g} {unit}", f"RMSE {measures['rmse']:.4g}"]


def _grouped(problems: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Problems that differ only in numbers and in the structure they name together, as the first of them says it."""
    groups: dict[str, dict[str, Any]] = {}
    for name, problem in problems:
        reason = problem.replace(name, "it")
        kind = re.sub(r"\d[\d.]*", "#", reason)
        group = groups.setdefault(kind, {"reason": reason, "structures": 0, "first": name})
        group["structures"] += 1
    return sorted(groups.values(), key=lambda group: -group["structures"])
