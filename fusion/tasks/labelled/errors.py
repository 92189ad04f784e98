"""Measures of the difference of predictions and labels: in all, by molecule, by element; and how these are told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from fusion import units, zeros
from fusion.datasets import Labelled
from fusion.datasets.inspection import compositions
from fusion.report import count
from fusion.tasks.labelled.calibration import calibration
from fusion.tasks.labelled.predictions import Predictions
from fusion.tasks.labelled.tensors import KINDS

KCAL = units.KCAL_MOL_PER_HARTREE
KCAL_ANGSTROM = units.KCAL_MOL_PER_HARTREE / units.ANGSTROM_PER_BOHR
_MEV = 1000.0 * units.EV_PER_HARTREE
_WORST = 5
_KINDS = 5
"""Reasons for leaving structures out that the terminal shows."""
_APART_KCAL = 5.0
"""Mean difference beyond which, if constants for the elements explain nine tenths of it, levels of theory differ."""


def measure(predictions: Predictions, zero: str, factor: float | None = None) -> dict[str, Any]:
    """The `evaluation` part of result.json: errors are prediction less label, in kcal/mol (and Angstrom).

    `zero`: what the method's energies are relative to (`fusion.zeros`). `factor`: by which the spread of the members
    was calibrated already.
    """
    data, difference = predictions.data, predictions.energy_errors() * KCAL
    known, forces = np.flatnonzero(np.isfinite(difference)), predictions.force_mae()
    more = [predictions.tensor_mae(kind) for kind in predictions.tensors]
    found: dict[str, Any] = {
        "structures": len(data) + len(data.report.left_out),
        "compared": int(np.isfinite([difference, forces, *more]).any(axis=0).sum()),
    }
    if len(known):
        found["energy"] = _energies(data, difference, known, zero)
    if np.isfinite(forces).any():
        found["forces"] = _forces(predictions, forces)
    for kind, (predicted, label) in predictions.tensors.items():
        errors = kind.errors(predicted, label)
        errors = errors[kind.known(errors)]
        if len(errors):
            told = {f"{name}_{kind.key}": value for name, value in measures(errors.ravel()).items()}
            found[kind.name] = {"structures": len(errors), **told}
    found["molecules"] = _molecules(predictions, corrected(predictions, found.get("energy")))
    if len(known) and np.isfinite(predictions.spread[known]).any():
        rest = corrected(predictions, found["energy"])[known]
        found["calibration"] = calibration(predictions.spread[known] * KCAL, rest)
        found["calibration"] |= {} if factor is None else {"factor": factor}
    found["outside"] = int(predictions.outside.sum())
    problems = [*data.report.left_out, *((data.name(i), text) for i, text in sorted(predictions.problems.items()))]
    if problems:
        from fusion.datasets.report import grouped

        found["left_out"] = grouped(problems)
    if predictions.failures:
        first, text = sorted(predictions.failures.items())[0]
        found["failed"] = {"structures": len(predictions.failures), "first": f"{data.name(first)}: {text}"}
    return found


def corrected(predictions: Predictions, energy: dict[str, Any] | None) -> np.ndarray:
    """(M,) kcal/mol, the errors of energies that count: less constants for the elements where levels differ."""
    difference = predictions.energy_errors() * KCAL
    if energy is None or energy["counted"] == "total":
        return difference
    return difference - _composition(predictions.data, difference)[0]


def worst(predictions: Predictions, energy: dict[str, Any] | None) -> int:
    """The structure whose energy, or forces, are furthest off."""
    errors = np.abs(corrected(predictions, energy))
    if not np.isfinite(errors).any():
        errors = predictions.force_mae()
    return int(np.nanargmax(errors)) if np.isfinite(errors).any() else 0


def rows(found: dict[str, Any]) -> Iterator[list[str]]:
    """Lines for the terminal."""
    yield ["compared", f"{found['compared']:,} of {found['structures']:,}", "structures"]
    energy, forces = found.get("energy"), found.get("forces")
    if energy:
        counted = energy[energy["counted"]]
        far = f"largest {counted['largest']:.3g}, {energy['worst']}"
        if energy["counted"] == "total":
            yield ["energies, MAE", *_told(counted, "kcal/mol"), far]
        else:
            yield ["energies, MAE", *_told(counted, "kcal/mol"), f"less a constant for each element: {energy['why']}"]
            yield ["  as they are", *_told(energy["total"], "kcal/mol"), far]
        if energy["counted"] == "total" and "composition_fitted" in energy:
            yield ["  zero fitted", *_told(energy["composition_fitted"], "kcal/mol"), "less a constant per element"]
        if "within_molecules" in energy:
            yield ["  same molecule", *_told(energy["within_molecules"], "kcal/mol"), "less the mean of each molecule"]
    if forces:
        yield ["forces, MAE", *_told(forces["total"], "kcal/mol/Å"), f"of {forces['structures']:,} structures"]
        for symbol, part in forces["by_element"].items():
            yield [f"  on {symbol}", *_told(part, "kcal/mol/Å"), f"{part['atoms']:,} atoms"]
    for kind in KINDS:
        if kind.name in found:
            part = found[kind.name]
            mae, rmse = (f"{part[f'{name}_{kind.key}']:.4g}" for name in ("mae", "rmse"))
            yield [f"{kind.plural}, MAE", f"{mae} {kind.text}", f"RMSE {rmse}", f"of {part['structures']:,} structures"]
    yield from _molecule_rows(found.get("molecules") or {})
    yield from _calibration_rows(found.get("calibration"))
    if found.get("outside"):
        yield ["OUTSIDE", count(found["outside"], "structure"), "of what the model was trained on"]
    left_out = found.get("left_out", [])
    for group in left_out[:_KINDS]:
        yield ["LEFT OUT", count(group["structures"], "structure"), f"{group['reason']} ({group['first']})"]
    if len(left_out) > _KINDS:
        rest = sum(group["structures"] for group in left_out[_KINDS:])
        yield ["LEFT OUT", f"{rest} structures", f"for {len(left_out) - _KINDS} more reasons"]


def _energies(data: Labelled, difference: np.ndarray, known: np.ndarray, zero: str) -> dict[str, Any]:
    errors = difference[known]
    found: dict[str, Any] = {"total": measures(errors)}
    found["total"]["mae_mev_per_atom"] = float(np.mean(np.abs(errors) / data.sizes[known])) / KCAL * _MEV
    fitted, rank = _composition(data, difference)
    rest = errors - fitted[known]
    if len(known) > rank:
        found["composition_fitted"] = measures(rest)
        found["shifted"] = measures(errors - errors.mean())
    apart = abs(errors).mean() > max(_APART_KCAL, 10.0 * np.abs(rest).mean())
    differ = (zero == zeros.ATOMISATION) != (data.energy_zero == zeros.ATOMISATION)
    found["counted"] = "composition_fitted" if len(known) > rank and (apart or differ) else "total"
    if found["counted"] != "total":
        found["why"] = "their zeros differ" if differ else "their levels of theory, or zeros, differ"
    counted = rest if found["counted"] != "total" else errors
    found["worst"] = data.name(int(known[np.argmax(np.abs(counted))]))
    found["by_element"] = _by_element(data, known, counted)
    group = data.group[known]
    several = np.bincount(group, minlength=len(data.groups))[group] > 1
    if several.any():
        means = np.bincount(group, errors, len(data.groups)) / np.maximum(
            np.bincount(group, minlength=len(data.groups)), 1
        )
        found["within_molecules"] = measures((errors - means[group])[several])
    return found


def _composition(data: Labelled, difference: np.ndarray) -> tuple[np.ndarray, int]:
    """(M,) what of the differences constants for the elements (of each data set) explain, by least squares; how many
    these are."""
    counts = compositions(data, np.unique(data.numbers))
    if len(data.sources) > 1:
        counts = np.concatenate([counts * (data.source == one)[:, None] for one in np.unique(data.source)], axis=1)
    known = np.isfinite(difference)
    solution, _, rank, _ = np.linalg.lstsq(counts[known], difference[known], rcond=None)
    return counts @ solution, int(rank)


def _by_element(data: Labelled, known: np.ndarray, errors: np.ndarray) -> dict[str, Any]:
    """Errors of the structures that contain an element."""
    elements = np.unique(data.numbers)
    there = compositions(data, elements)[known] > 0
    return {
        chemical_symbols[number]: {"structures": int(there[:, place].sum()), **measures(errors[there[:, place]])}
        for place, number in enumerate(elements.tolist())
        if there[:, place].any()
    }


def _forces(predictions: Predictions, each: np.ndarray) -> dict[str, Any]:
    differences = predictions.force_errors()
    assert differences is not None
    errors, numbers = differences * KCAL_ANGSTROM, np.asarray(predictions.data.numbers)
    known = np.isfinite(errors).all(axis=1)
    by_element = {
        chemical_symbols[number]: {"atoms": int(np.sum(known & (numbers == number)))}
        | measures(errors[known & (numbers == number)].ravel())
        for number in np.unique(numbers[known]).tolist()
    }
    return {
        "structures": int(np.isfinite(each).sum()),
        "total": measures(errors[known].ravel()),
        "by_element": by_element,
        "correlation": predictions.force_correlation(),
    }


def _molecules(predictions: Predictions, errors: np.ndarray) -> dict[str, Any]:
    """How many there are, and the worst by the mean absolute error of their energies (or forces)."""
    table = molecule_table(predictions, errors)
    by_energy = any(math.isfinite(row["energy_mae_kcal_mol"]) for row in table)
    key = "energy_mae_kcal_mol" if by_energy else "forces_mae_kcal_mol_angstrom"
    ranked = sorted((row for row in table if math.isfinite(row[key])), key=lambda row: -row[key])
    return {"number": len(table), "worst": ranked[:_WORST]}


def molecule_table(predictions: Predictions, errors: np.ndarray) -> list[dict[str, Any]]:
    """A row for each molecule: structures, errors of energies (`errors` (M,), kcal/mol), forces and what else has
    labels."""
    data, forces = predictions.data, predictions.force_mae() * KCAL_ANGSTROM
    more = {f"{kind.name}_mae_{kind.key}": predictions.tensor_mae(kind) * kind.scale for kind in predictions.tensors}
    order = np.argsort(data.group, kind="stable")
    ends = np.flatnonzero(np.diff(data.group[order])) + 1
    found = []
    for members in np.split(order, ends):
        energy, force = errors[members], forces[members]
        energy, force = energy[np.isfinite(energy)], force[np.isfinite(force)]
        nan = math.nan
        found.append(
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
    return found


def measures(errors: np.ndarray) -> dict[str, float]:
    """Mean absolute, root mean square, mean and largest error."""
    return {
        "mae": float(np.mean(np.abs(errors))),
        "rmse": _rms(errors),
        "mean": float(np.mean(errors)),
        "largest": float(np.max(np.abs(errors))),
    }


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else math.nan


def _told(found: dict[str, float], unit: str) -> list[str]:
    return [f"{found['mae']:.4g} {unit}", f"RMSE {found['rmse']:.4g}"]


def _molecule_rows(found: dict[str, Any]) -> Iterator[list[str]]:
    if found.get("number", 0) < 2:
        return
    for place, row in enumerate(found["worst"][:3]):
        value, unit = row["energy_mae_kcal_mol"], "kcal/mol"
        if value is None or not math.isfinite(value):
            value, unit = row["forces_mae_kcal_mol_angstrom"], "kcal/mol/Å"
        number = f"{row['structures']:,} structures" if row["structures"] > 1 else "1 structure"
        yield ["worst molecules" if place == 0 else "", f"{value:.4g} {unit}", f"{row['molecule']}, {number}"]


def _calibration_rows(found: dict[str, Any] | None) -> Iterator[list[str]]:
    if found is None:
        return
    known = f", calibrated: the members' × {found['factor']:.3g}" if "factor" in found else ""
    yield ["model spread", f"{found['rms_spread_kcal_mol']:.3g} kcal/mol", f"root mean square{known}"]
    within = f"{100 * found['within_1']:.0f} % within 1, {100 * found['within_2']:.0f} % within 2 (normal: 68, 95)"
    yield ["  calibration", f"times {found['scale']:.3g}", f"has 68 % of the errors within it; as it is, {within}"]
