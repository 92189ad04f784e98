"""Errors of predictions: overall, by molecule and by element; and their lines in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from fusion.chemistry import energy_zeros, units
from fusion.console.format import count
from fusion.datasets import Labelled
from fusion.datasets.inspection import compositions
from fusion.evaluation.calibration import calibration
from fusion.evaluation.predictions import Predictions
from fusion.evaluation.tensors import KINDS

KCAL = units.KCAL_MOL_PER_HARTREE
KCAL_ANGSTROM = units.KCAL_MOL_PER_HARTREE / units.ANGSTROM_PER_BOHR
_MEV = 1000.0 * units.EV_PER_HARTREE
_WORST = 5
_REASONS = 5
"""Reasons for leaving structures out that the terminal shows."""
_DIFFERENT_LEVELS_KCAL = 5.0
"""Mean error above which method and labels have different levels of theory, if a constant per element explains nine
tenths of it."""


def measure(predictions: Predictions, zero: str, factor: float | None = None) -> dict[str, Any]:
    """The `evaluation` part of result.json. Errors are prediction minus label, in kcal/mol and kcal/mol/Angstrom.

    `zero`: energy zero of the method (`fusion.chemistry.energy_zeros`). `factor`: calibration factor that the spread of
    the members contains already.
    """
    data, difference = predictions.data, predictions.energy_errors() * KCAL
    compared_energies, forces = np.flatnonzero(np.isfinite(difference)), predictions.force_mae()
    more = [predictions.tensor_mae(kind) for kind in predictions.tensors]
    evaluation: dict[str, Any] = {
        "structures": len(data) + len(data.report.left_out),
        "compared": int(np.isfinite([difference, forces, *more]).any(axis=0).sum()),
    }
    if len(compared_energies):
        evaluation["energy"] = _energies(data, difference, compared_energies, zero)
    if np.isfinite(forces).any():
        evaluation["forces"] = _forces(predictions, forces)
    for kind, (predicted, label) in predictions.tensors.items():
        errors = kind.errors(predicted, label)
        errors = errors[kind.known(errors)]
        if len(errors):
            numbers = {f"{name}_{kind.key}": value for name, value in measures(errors.ravel()).items()}
            evaluation[kind.name] = {"structures": len(errors), **numbers}
    evaluation["molecules"] = _molecules(predictions, corrected(predictions, evaluation.get("energy")))
    if len(compared_energies) and np.isfinite(predictions.spread[compared_energies]).any():
        residuals = corrected(predictions, evaluation["energy"])[compared_energies]
        evaluation["calibration"] = calibration(predictions.spread[compared_energies] * KCAL, residuals)
        evaluation["calibration"] |= {} if factor is None else {"factor": factor}
    evaluation["outside"] = int(predictions.outside.sum())
    problems = [*data.report.left_out, *((data.name(i), text) for i, text in sorted(predictions.problems.items()))]
    if problems:
        from fusion.datasets.report import grouped

        evaluation["left_out"] = grouped(problems)
    if predictions.failures:
        first, text = sorted(predictions.failures.items())[0]
        evaluation["failed"] = {"structures": len(predictions.failures), "first": f"{data.name(first)}: {text}"}
    return evaluation


def corrected(predictions: Predictions, energy: dict[str, Any] | None) -> np.ndarray:
    """Energy errors (M,) in kcal/mol; minus a fitted constant per element where the levels of theory differ."""
    difference = predictions.energy_errors() * KCAL
    if energy is None or energy["counted"] == "total":
        return difference
    return difference - _composition(predictions.data, difference)[0]


def worst(predictions: Predictions, energy: dict[str, Any] | None) -> int:
    """Index of the structure with the largest energy error, or force error where no energies are compared."""
    errors = np.abs(corrected(predictions, energy))
    if not np.isfinite(errors).any():
        errors = predictions.force_mae()
    return int(np.nanargmax(errors)) if np.isfinite(errors).any() else 0


def rows(evaluation: dict[str, Any]) -> Iterator[list[str]]:
    """Lines of the terminal for the `evaluation` part of result.json."""
    yield ["compared", f"{evaluation['compared']:,} of {evaluation['structures']:,}", "structures"]
    energy, forces = evaluation.get("energy"), evaluation.get("forces")
    if energy:
        counted = energy[energy["counted"]]
        largest_error = f"largest {counted['largest']:.3g}, {energy['worst']}"
        if energy["counted"] == "total":
            yield ["energies, MAE", *_mae_and_rmse(counted, "kcal/mol"), largest_error]
        else:
            yield [
                "energies, MAE",
                *_mae_and_rmse(counted, "kcal/mol"),
                f"less a constant for each element: {energy['why']}",
            ]
            yield ["  as they are", *_mae_and_rmse(energy["total"], "kcal/mol"), largest_error]
        if energy["counted"] == "total" and "composition_fitted" in energy:
            yield [
                "  zero fitted",
                *_mae_and_rmse(energy["composition_fitted"], "kcal/mol"),
                "less a constant per element",
            ]
        if "within_molecules" in energy:
            yield [
                "  same molecule",
                *_mae_and_rmse(energy["within_molecules"], "kcal/mol"),
                "less the mean of each molecule",
            ]
    if forces:
        yield ["forces, MAE", *_mae_and_rmse(forces["total"], "kcal/mol/Å"), f"of {forces['structures']:,} structures"]
        for symbol, part in forces["by_element"].items():
            yield [f"  on {symbol}", *_mae_and_rmse(part, "kcal/mol/Å"), f"{part['atoms']:,} atoms"]
    for kind in KINDS:
        if kind.name in evaluation:
            part = evaluation[kind.name]
            mae, rmse = (f"{part[f'{name}_{kind.key}']:.4g}" for name in ("mae", "rmse"))
            yield [f"{kind.plural}, MAE", f"{mae} {kind.text}", f"RMSE {rmse}", f"of {part['structures']:,} structures"]
    yield from _molecule_rows(evaluation.get("molecules") or {})
    yield from _calibration_rows(evaluation.get("calibration"))
    if evaluation.get("outside"):
        yield ["OUTSIDE", count(evaluation["outside"], "structure"), "of what the model was trained on"]
    left_out = evaluation.get("left_out", [])
    for group in left_out[:_REASONS]:
        yield ["LEFT OUT", count(group["structures"], "structure"), f"{group['reason']} ({group['first']})"]
    if len(left_out) > _REASONS:
        others = sum(group["structures"] for group in left_out[_REASONS:])
        yield ["LEFT OUT", f"{others} structures", f"for {len(left_out) - _REASONS} more reasons"]


def _energies(data: Labelled, difference: np.ndarray, compared: np.ndarray, zero: str) -> dict[str, Any]:
    """Measures of the energy errors `difference` (M,), kcal/mol, of the structures `compared` (n,) by index."""
    errors = difference[compared]
    energy: dict[str, Any] = {"total": measures(errors)}
    energy["total"]["mae_mev_per_atom"] = float(np.mean(np.abs(errors) / data.sizes[compared])) / KCAL * _MEV
    fitted, rank = _composition(data, difference)
    residuals = errors - fitted[compared]
    if len(compared) > rank:
        energy["composition_fitted"] = measures(residuals)
        energy["shifted"] = measures(errors - errors.mean())
    levels_differ = abs(errors).mean() > max(_DIFFERENT_LEVELS_KCAL, 10.0 * np.abs(residuals).mean())
    zeros_differ = (zero == energy_zeros.ATOMISATION) != (data.energy_zero == energy_zeros.ATOMISATION)
    energy["counted"] = "composition_fitted" if len(compared) > rank and (levels_differ or zeros_differ) else "total"
    if energy["counted"] != "total":
        energy["why"] = "their zeros differ" if zeros_differ else "their levels of theory, or zeros, differ"
    counted = residuals if energy["counted"] != "total" else errors
    energy["worst"] = data.name(int(compared[np.argmax(np.abs(counted))]))
    energy["by_element"] = _by_element(data, compared, counted)
    group = data.group[compared]
    has_siblings = np.bincount(group, minlength=len(data.groups))[group] > 1
    if has_siblings.any():
        means = np.bincount(group, errors, len(data.groups)) / np.maximum(
            np.bincount(group, minlength=len(data.groups)), 1
        )
        energy["within_molecules"] = measures((errors - means[group])[has_siblings])
    return energy


def _composition(data: Labelled, difference: np.ndarray) -> tuple[np.ndarray, int]:
    """Part of the differences (M,) explained by a constant per element and data set, by least squares; and the number
    of independent constants."""
    counts = compositions(data, np.unique(data.numbers))
    if len(data.sources) > 1:
        counts = np.concatenate(
            [counts * (data.source == source)[:, None] for source in np.unique(data.source)], axis=1
        )
    finite = np.isfinite(difference)
    solution, _, rank, _ = np.linalg.lstsq(counts[finite], difference[finite], rcond=None)
    return counts @ solution, int(rank)


def _by_element(data: Labelled, compared: np.ndarray, errors: np.ndarray) -> dict[str, Any]:
    """Measures of the errors of all structures that contain an element, for each element."""
    elements = np.unique(data.numbers)
    contains = compositions(data, elements)[compared] > 0
    return {
        chemical_symbols[number]: {
            "structures": int(contains[:, column].sum()),
            **measures(errors[contains[:, column]]),
        }
        for column, number in enumerate(elements.tolist())
        if contains[:, column].any()
    }


def _forces(predictions: Predictions, each: np.ndarray) -> dict[str, Any]:
    """Measures of the force errors overall and by element; `each` (M,): mean absolute error of each structure."""
    differences = predictions.force_errors()
    assert differences is not None
    errors, numbers = differences * KCAL_ANGSTROM, np.asarray(predictions.data.numbers)
    finite = np.isfinite(errors).all(axis=1)
    by_element = {
        chemical_symbols[number]: {"atoms": int(np.sum(finite & (numbers == number)))}
        | measures(errors[finite & (numbers == number)].ravel())
        for number in np.unique(numbers[finite]).tolist()
    }
    return {
        "structures": int(np.isfinite(each).sum()),
        "total": measures(errors[finite].ravel()),
        "by_element": by_element,
        "correlation": predictions.force_correlation(),
    }


def _molecules(predictions: Predictions, errors: np.ndarray) -> dict[str, Any]:
    """Number of molecules, and those with the largest mean absolute error of energies (or forces)."""
    table = molecule_table(predictions, errors)
    by_energy = any(math.isfinite(row["energy_mae_kcal_mol"]) for row in table)
    key = "energy_mae_kcal_mol" if by_energy else "forces_mae_kcal_mol_angstrom"
    ranked = sorted((row for row in table if math.isfinite(row[key])), key=lambda row: -row[key])
    return {"number": len(table), "worst": ranked[:_WORST]}


def molecule_table(predictions: Predictions, errors: np.ndarray) -> list[dict[str, Any]]:
    """A row for each molecule: number of structures and errors of energies (`errors` (M,), kcal/mol), forces, stress
    and dipoles."""
    data, forces = predictions.data, predictions.force_mae() * KCAL_ANGSTROM
    more = {f"{kind.name}_mae_{kind.key}": predictions.tensor_mae(kind) * kind.scale for kind in predictions.tensors}
    order = np.argsort(data.group, kind="stable")
    ends = np.flatnonzero(np.diff(data.group[order])) + 1
    table = []
    for members in np.split(order, ends):
        energy, force = errors[members], forces[members]
        energy, force = energy[np.isfinite(energy)], force[np.isfinite(force)]
        nan = math.nan
        table.append(
            {
                "molecule": data.groups[int(data.group[members[0]])],
                "structures": len(members),
                "energy_mae_kcal_mol": float(np.abs(energy).mean()) if len(energy) else nan,
                "energy_rmse_kcal_mol": _rms(energy),
                "energy_largest_kcal_mol": float(np.abs(energy).max()) if len(energy) else nan,
                "forces_mae_kcal_mol_angstrom": float(force.mean()) if len(force) else nan,
                **{name: _mean(values[members]) for name, values in more.items()},
            }
        )
    return table


def measures(errors: np.ndarray) -> dict[str, float]:
    """Mean absolute, root mean square, mean and largest absolute error, in the unit of `errors`."""
    return {
        "mae": float(np.mean(np.abs(errors))),
        "rmse": _rms(errors),
        "mean": float(np.mean(errors)),
        "largest": float(np.max(np.abs(errors))),
    }


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else math.nan


def _mae_and_rmse(measured: dict[str, float], unit: str) -> list[str]:
    return [f"{measured['mae']:.4g} {unit}", f"RMSE {measured['rmse']:.4g}"]


def _molecule_rows(molecules: dict[str, Any]) -> Iterator[list[str]]:
    if molecules.get("number", 0) < 2:
        return
    for rank, row in enumerate(molecules["worst"][:3]):
        value, unit = row["energy_mae_kcal_mol"], "kcal/mol"
        if value is None or not math.isfinite(value):
            value, unit = row["forces_mae_kcal_mol_angstrom"], "kcal/mol/Å"
        number = f"{row['structures']:,} structures" if row["structures"] > 1 else "1 structure"
        yield ["worst molecules" if rank == 0 else "", f"{value:.4g} {unit}", f"{row['molecule']}, {number}"]


def _calibration_rows(calibrated: dict[str, Any] | None) -> Iterator[list[str]]:
    if calibrated is None:
        return
    factor = f", calibrated: the members' × {calibrated['factor']:.3g}" if "factor" in calibrated else ""
    yield ["model spread", f"{calibrated['rms_spread_kcal_mol']:.3g} kcal/mol", f"root mean square{factor}"]
    within = (
        f"{100 * calibrated['within_1']:.0f} % within 1, {100 * calibrated['within_2']:.0f} % within 2 (normal: 68, 95)"
    )
    yield ["  calibration", f"times {calibrated['scale']:.3g}", f"contains 68 % of the errors; unscaled, {within}"]
