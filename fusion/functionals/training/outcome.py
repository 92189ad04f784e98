"""Results of a training: errors at fixed densities and in self-consistent calculations, table and result."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from torch import nn

from fusion.chemistry.units import KCAL_MOL_PER_HARTREE as KCAL
from fusion.files.atomic import write_atomically
from fusion.functionals.scf.kohn_sham import kohn_sham, molecule
from fusion.functionals.training.dataset import KINDS, Difference, Entry, Set
from fusion.functionals.training.samples import Sample
from fusion.functionals.training.settings import Settings

TABLE: Final = "differences.csv"
SCF_CYCLES: Final = 40
_COLUMNS: Final = ("before_training", "fixed_density", "self_consistent", "conventional")


def self_consistent(
    chosen: Set, functional: nn.Module, settings: Settings, grid_level: int, update: Callable[[int, str], None]
) -> dict[str, float | None]:
    """SCF energies (hartree) of all entries that the held-out differences need; None for one that does not converge.

    The basis is that of the labels, the start their density; `functional` is a module or the name of a model.
    """
    names = needed(chosen)
    energies: dict[str, float | None] = {}
    for count, name in enumerate(names):
        update(count, name)
        energies[name] = scf_energy(chosen.entries[name], functional, settings, grid_level)
    update(len(names), "")
    return energies


def needed(chosen: Set) -> list[str]:
    """Names of the entries in held-out differences."""
    return list(dict.fromkeys(name for d in chosen.differences if d.held_out for name in d.coefficients))


def scf_energy(entry: Entry, functional: nn.Module | str, settings: Settings, grid_level: int) -> float | None:
    """SCF energy in hartree; None if the SCF does not converge."""
    mol = molecule(entry.system, settings.level.basis)
    options: dict[str, Any] = {"grid_level": grid_level, "conv_tol": 1e-7, "start": settings.level.density}
    mean_field = kohn_sham(mol, functional, occupations=entry.occupations, **options)
    mean_field.verbose, mean_field.chkfile, mean_field.max_cycle = 0, None, SCF_CYCLES
    energy = float(mean_field.kernel())
    return energy if mean_field.converged else None


def value(difference: Difference, energies: Mapping[str, float | None]) -> float | None:
    """Value of the difference in kcal/mol; None if an energy is missing."""
    total = 0.0
    for name, coefficient in difference.coefficients.items():
        energy = energies.get(name)
        if energy is None:
            return None
        total += coefficient * energy
    return KCAL * total


def table(
    chosen: Set,
    samples: Mapping[str, Sample],
    before: Mapping[str, float],
    deviations: Mapping[str, float],
    scf: Mapping[str, float | None],
) -> list[dict[str, Any]]:
    """Table with one row per difference, kcal/mol.

    `before` and `deviations` (hartree) are errors at the fixed densities before and after the training.
    """
    reference = {name: sample.reference for name, sample in samples.items()}
    started, learned = ({name: reference[name] + each[name] for name in samples} for each in (before, deviations))
    conventional = {name: sample.conventional for name, sample in samples.items()}
    return [
        {
            "name": difference.name,
            "kind": difference.kind,
            "held_out": int(difference.held_out),
            "reference": value(difference, reference),
            "before_training": value(difference, started),
            "fixed_density": value(difference, learned),
            "self_consistent": value(difference, scf) if difference.held_out else None,
            "conventional": value(difference, conventional),
        }
        for difference in chosen.differences
    ]


def write(directory: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write `differences.csv`: energies in kcal/mol, empty if there is none."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"{v:.4f}" if isinstance(v, float) else v for key, v in row.items()} for row in rows)
    write_atomically(directory / TABLE, text.getvalue())


def read(directory: Path) -> list[dict[str, Any]]:
    """Read the rows of `differences.csv`."""
    with (directory / TABLE).open(newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for row in rows:
        for key in ("reference", *_COLUMNS):
            row[key] = float(row[key]) if row.get(key) else None
        row["held_out"] = row["held_out"] == "1"
    return rows


def measure(rows: Sequence[Mapping[str, Any]], settings: Settings, scf: Mapping[str, float | None]) -> dict[str, Any]:
    """Build the `training` part of result.json: mean absolute errors in kcal/mol by kind, and unconverged systems."""
    level = settings.level
    summary: dict[str, Any] = {
        "labels": f"CCSD(T) or FCI, {level.basis}, all electrons, on densities of {level.density}",
        "differences": len(rows),
        "held_out": [row["name"] for row in rows if row["held_out"]],
        "mae_kcal_mol": {},
    }
    for split, chosen in (("trained", False), ("held_out", True)):
        mine = [row for row in rows if bool(row["held_out"]) == chosen]
        for kind in (*KINDS, "all"):
            some = [row for row in mine if kind in (row["kind"], "all")]
            if some:
                summary["mae_kcal_mol"].setdefault(split, {})[kind] = {"number": len(some), **_errors(some)}
    lost = [name for name, energy in scf.items() if energy is None]
    if lost:
        summary["not_converged"] = lost
    return summary


def _errors(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    pairs = {key: [abs(row[key] - row["reference"]) for row in rows if row[key] is not None] for key in _COLUMNS}
    return {key: float(np.mean(errors)) for key, errors in pairs.items() if errors}


def worst(rows: Iterable[Mapping[str, Any]]) -> str:
    """Name of the difference with the largest error at fixed density, preferring held-out differences."""
    return str(max(rows, key=lambda row: (bool(row["held_out"]), abs(row["fixed_density"] - row["reference"])))["name"])


def judged(summary: Mapping[str, Any]) -> str | None:
    """Reason against the `training` part of result.json; None if the functional has learned and its SCF converges.

    It has learned if its mean error at fixed densities is lower than before the training: that of the held-out
    differences, or of the trained ones if none is held out.
    """
    if summary.get("not_converged"):
        return f"the SCF does not converge for {', '.join(summary['not_converged'])}"
    measured = summary["mae_kcal_mol"]
    split = "held_out" if "held_out" in measured else "trained"
    errors = measured[split]["all"]
    if errors["fixed_density"] < errors["before_training"]:
        return None
    where = "held-out" if split == "held_out" else "trained"
    return (
        f"the mean error of {where} differences is {errors['fixed_density']:.2f} kcal/mol and was "
        f"{errors['before_training']:.2f} before the training: more method.training.steps or data"
    )


def lines(summary: Mapping[str, Any], density: str) -> Iterator[list[str]]:
    """Lines for the terminal from the `training` part of result.json."""
    for split, label in (("trained", "trained on"), ("held_out", "held out")):
        for kind, errors in summary["mae_kcal_mol"].get(split, {}).items():
            parts = [f"{errors['fixed_density']:7.2f} kcal/mol"]
            if "before_training" in errors:
                parts.append(f"before {errors['before_training']:7.2f}")
            if "self_consistent" in errors:
                parts.append(f"self-consistent {errors['self_consistent']:7.2f}")
            number = f"{errors['number']} {'differences' if kind == 'all' else kind}"
            yield [label, number, *parts, f"{density} {errors['conventional']:7.2f}"]
    if summary.get("not_converged"):
        yield ["not converged", ", ".join(summary["not_converged"])]
