"""Predictions of a method for labelled structures, with the labels. Atomic units."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from fusion.chemistry import units
from fusion.datasets import Labelled
from fusion.evaluation.tensors import Kind, labelled
from fusion.runs.results import Result

_FEWEST = 12
"""Components needed to distinguish forces from gradients, and one unit from another."""


class Predictions:
    """Energies (M,), spreads (M,) and forces (N, 3) of the structures of `data`; NaN where not calculated.

    `tensors` has predictions and labels (M, ...) of stress and dipoles where the data and `properties` have them.
    `problems` has the reasons for leaving structures out, `failures` those of failed calculations, by index.
    """

    def __init__(self, data: Labelled, problems: dict[int, str], properties: Collection[str]) -> None:
        self.data, self.problems = data, problems
        number = len(data)
        self.failures: dict[int, str] = {}
        self.done, self.outside = np.zeros(number, dtype=bool), np.zeros(number, dtype=bool)
        self.done[list(problems)] = True
        self.energy, self.spread = np.full(number, np.nan), np.full(number, np.nan)
        self.forces = None if data.forces is None else np.full((len(data.numbers), 3), np.nan)
        self.tensors = {kind: (np.full(label.shape, np.nan), label) for kind, label in labelled(data, properties)}

    @property
    def good(self) -> int:
        """Number of structures that the method does not refuse."""
        return len(self.data) - len(self.problems)

    def pending(self) -> list[int]:
        """Indices of the structures to calculate, large ones first: equal sizes make good batches."""
        pending = np.flatnonzero(~self.done)
        return pending[np.argsort(-self.data.sizes[pending], kind="stable")].tolist()

    def add(self, index: int, result: Result) -> None:
        """Record the result of one structure, or its failure."""
        self.done[index] = True
        if result.status != "ok" or result.energy is None:
            self.failures[index] = result.message or result.status
            return
        self.energy[index] = result.energy
        self.spread[index] = np.nan if result.energy_std is None else result.energy_std
        self.outside[index] = bool((result.details.get("domain") or {}).get("outside"))
        if self.forces is not None and "forces" in result.properties:
            self.forces[self.data.offsets[index] : self.data.offsets[index + 1]] = result.properties["forces"]
        for kind, (predicted, _) in self.tensors.items():
            if kind.name in result.properties:
                predicted[index] = result.properties[kind.name]

    def leave_out(self, index: int, problem: str) -> None:
        """Record that the method refuses a structure, and why."""
        self.done[index] = True
        self.problems[index] = problem

    def energy_errors(self) -> np.ndarray:
        """Prediction minus label (M,) in hartree; NaN where either is missing."""
        return self.energy - np.asarray(self.data.energy)

    def force_errors(self) -> np.ndarray | None:
        """Prediction minus label (N, 3) in hartree/bohr; None where the data have no forces."""
        return None if self.forces is None or self.data.forces is None else self.forces - np.asarray(self.data.forces)

    def force_mae(self) -> np.ndarray:
        """Mean absolute error (M,) of each structure's force components, hartree/bohr; NaN where there is none."""
        errors = self.force_errors()
        if errors is None or not len(self.data):
            return np.full(len(self.data), np.nan)
        return np.add.reduceat(np.abs(errors).mean(axis=1), self.data.offsets[:-1]) / self.data.sizes

    def tensor_mae(self, kind: Kind) -> np.ndarray:
        """Mean absolute error (M,) of each structure's components, atomic units; NaN where there is none."""
        predicted, label = self.tensors[kind]
        return np.abs(predicted - label).reshape(len(label), -1).mean(axis=1)

    def force_correlation(self) -> float | None:
        """Pearson's correlation of the force components calculated so far; None for too few."""
        if self.forces is None or self.data.forces is None:
            return None
        return _correlation(self.forces, np.asarray(self.data.forces))

    def agreement(self, kind: Kind) -> tuple[float, float] | None:
        """Pearson's correlation of the components calculated so far, and the ratio of the norms of labels and
        predictions; None for too few."""
        if kind not in self.tensors:
            return None
        predicted, label = self.tensors[kind]
        correlation = _correlation(predicted, label)
        if correlation is None:
            return None
        both = np.isfinite(predicted) & np.isfinite(label)
        return correlation, float(np.linalg.norm(label[both]) / np.linalg.norm(predicted[both]))

    def energy_ratio(self) -> float | None:
        """Median ratio of label and prediction of the calculated energies, zeros left out; None if they scatter."""
        label = np.asarray(self.data.energy)
        both = np.isfinite(self.energy) & np.isfinite(label) & (self.energy != 0) & (label != 0)
        ratios = label[both] / self.energy[both]
        if not len(ratios) or np.ptp(ratios) > 0.02 * abs(ratios[0]):
            return None
        return float(np.median(ratios))

    def text(self) -> str:
        """Text of the progress line: the mean absolute force error."""
        errors = self.force_errors()
        if errors is None or not np.isfinite(errors).any():
            return ""
        scale = units.KCAL_MOL_PER_HARTREE / units.ANGSTROM_PER_BOHR
        return f"forces off by {np.nanmean(np.abs(errors)) * scale:.3g} kcal/mol/Å"

    def state(self) -> dict[str, Any]:
        """Arrays and reasons for a checkpoint."""
        return {
            "ids": np.asarray(self.data.ids),
            "done": self.done,
            "energy": self.energy,
            "spread": self.spread,
            "outside": self.outside,
            "forces": np.zeros((0, 3)) if self.forces is None else self.forces,
            **{kind.name: predicted for kind, (predicted, _) in self.tensors.items()},
            "failures": {str(index): text for index, text in self.failures.items()},
            "problems": {str(index): text for index, text in self.problems.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned for the same structures."""
        self.done, self.energy, self.spread = state["done"], state["energy"], state["spread"]
        self.outside = state["outside"]
        self.forces = None if self.forces is None else state["forces"]
        self.tensors = {kind: (state.get(kind.name, empty), label) for kind, (empty, label) in self.tensors.items()}
        self.failures = {int(index): text for index, text in state["failures"].items()}
        self.problems = {int(index): text for index, text in state["problems"].items()}


def _correlation(predicted: np.ndarray, label: np.ndarray) -> float | None:
    both = np.isfinite(predicted) & np.isfinite(label)
    if both.sum() < _FEWEST or not predicted[both].std() * label[both].std() > 0:
        return None
    return float(np.corrcoef(predicted[both], label[both])[0, 1])
