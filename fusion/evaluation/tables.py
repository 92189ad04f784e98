"""Files of an evaluation: a row for each structure, a row for each molecule, forces, stress and dipoles."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from fusion.chemistry.formulas import formula
from fusion.evaluation import errors
from fusion.evaluation.predictions import Predictions
from fusion.evaluation.tensors import KINDS
from fusion.files.atomic import write_atomically

STRUCTURES, MOLECULES, FORCES = "structures.csv", "molecules.csv", "forces.npz"


def write(directory: Path, predictions: Predictions, evaluation: dict[str, Any]) -> None:
    """Write structures.csv, forces.npz, stress.npz and dipoles.npz in atomic units, and molecules.csv in the units of
    result.json."""
    counted = errors.corrected(predictions, evaluation.get("energy"))
    _structures(directory / STRUCTURES, predictions, counted)
    _molecules(directory / MOLECULES, errors.molecule_table(predictions, counted))
    for kind in KINDS:
        predicted, label = predictions.tensors.get(kind, (None, None))
        kind.write(directory, predicted, label, np.arange(len(predictions.data)))
    differences, data = predictions.force_errors(), predictions.data
    if differences is None or not np.isfinite(differences).any():
        (directory / FORCES).unlink(missing_ok=True)
        return
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        numbers=np.asarray(data.numbers),
        structure=np.repeat(np.arange(len(data)), data.sizes),
        label=np.asarray(data.forces),
        predicted=predictions.forces,  # type: ignore[arg-type]
    )
    write_atomically(directory / FORCES, buffer.getvalue())


def _structures(path: Path, predictions: Predictions, counted: np.ndarray) -> None:
    data, text = predictions.data, io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    columns = ["label_hartree", "energy_hartree", "energy_std_hartree", "forces_mae_hartree_per_bohr"]
    columns += [*(f"{kind.name}_mae_{kind.atomic}" for kind in predictions.tensors), "error_counted_hartree"]
    table.writerow(["structure", "source", "formula", "atoms", *columns, "outside", "problem"])
    more = [predictions.tensor_mae(kind) for kind in predictions.tensors]
    arrays = [data.energy, predictions.energy, predictions.spread, predictions.force_mae(), *more]
    values = np.column_stack([*arrays, counted / errors.KCAL])
    for index in range(len(data)):
        identity = [data.name(index), data.sources[int(data.source[index])], formula(data.symbols(index))]
        numbers = [f"{value:.10f}" if math.isfinite(value) else "" for value in values[index]]
        problem = predictions.problems.get(index) or predictions.failures.get(index, "")
        table.writerow([*identity, int(data.sizes[index]), *numbers, int(predictions.outside[index]), problem])
    for name, reason in data.report.left_out:
        table.writerow([name, "", "", "", *[""] * len(columns), 0, reason])
    write_atomically(path, text.getvalue())


def _molecules(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]) if rows else ["molecule"], lineterminator="\n")
    table.writeheader()
    for row in rows:
        formatted = {key: "" if math.isnan(v) else f"{v:.6g}" for key, v in row.items() if isinstance(v, float)}
        table.writerow(row | formatted)
    write_atomically(path, text.getvalue())
