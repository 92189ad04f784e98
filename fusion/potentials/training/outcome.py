"""Result of a training: errors on every part of the data, and tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fusion.evaluation.tensors import KINDS
from fusion.files.atomic import write_atomically
from fusion.parallel import processes
from fusion.potentials import abilities
from fusion.potentials.self_energies import self_energies
from fusion.potentials.training import baseline, spread
from fusion.potentials.training.loss import Weights
from fusion.potentials.training.predictions import Errors, Predictions, errors, predict
from fusion.potentials.training.targets import atoms_of
from fusion.runs.results import Result

if TYPE_CHECKING:
    from torch import nn

    from fusion.datasets import Labelled, Split
    from fusion.evaluation.uncertainty import ForceFactor, Uncertainty
    from fusion.potentials.training.fitting import Fitting
    from fusion.runs.run import Run

TABLE: Final = "structures.csv"
ARRAYS: Final = "forces.npz"
_BATCH = 128
_PARTS: Final = (("train", "trained on"), ("validation", "validation"), ("test", "test"), ("unseen", "new molecules"))


def finish(module: Fitting, data: Labelled, split: Split, run: Run) -> Result:
    """Return the errors of the trained model; the first rank writes the tables of the held-out structures."""
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    if split.settings.get("unseen_molecules"):  # errors on new molecules are not those on new conformations
        unseen = split.unseen(data)
        parts |= {"test": split.test[~unseen], "unseen": split.test[unseen]}
    predictions: dict[str, Predictions] = {}
    errors_by_part: dict[str, Any] = {}
    final = Weights(1.0, 0.0, 0.0)
    for name, indices in parts.items():
        if len(indices):
            predictions[name] = predict(module.passes, module.labels, indices, module.members, _BATCH, module.device)
            errors_by_part[name] = _errors_document(errors(predictions[name], module.labels, final), len(indices))
    largest_part = next(name for name in ("test", "validation", "train") if name in predictions)
    calibrated, forces = spread.uncertainty(predictions, module.labels), spread.force_factor(predictions, module.labels)
    mean = baseline.compared(
        module.labels,
        np.asarray(data.numbers),
        split.train,
        predictions[largest_part].indices,
        errors_by_part[largest_part].get("energy_mae_kcal_mol", np.nan),
    )
    if processes.rank() == 0:
        _write(module, data, predictions, largest_part, calibrated, forces, run)
    details: dict[str, Any] = {
        "data": " + ".join(data.sources),
        "parts": errors_by_part,
        "baseline": mean,
        "uncertainty": spread.document(predictions, module.labels, calibrated, forces),
        "elements": _elements(data, split.train),
        "epochs": module.descent.done // module.per_epoch,
        "steps": module.descent.done,
        "batch": module.settings.batch,
        "members": module.members,
        "energy_zero": data.energy_zero,
        "level_of_theory": data.report.level_of_theory,
        "charges": np.unique(np.asarray(data.charge)[split.train]).tolist(),
        "spins": [int(spin) for spin in np.unique(data.spins(split.train))],
        "parameters": sum(p.numel() for p in module.model.parameters()),
        "trained_parameters": sum(p.numel() for p in module.descent.parameters),
        "model": described(module.model),
        "stopped_early": module.descent.done < module.total,
        "conformations_per_cpu_s": round(module.seen / module.cpu_s, 1) if module.cpu_s else None,
    }
    energies, elements = self_energies(module.model), abilities.elements(module.model)
    if energies is not None and elements is not None:
        values = energies.values.detach().cpu().tolist()
        details["self_energies_hartree"] = dict(zip(elements, values, strict=True))
    worst = _worst(predictions[largest_part], module)
    return Result(data.system(worst), details={"training": details})


def described(model: nn.Module) -> dict[str, Any] | None:
    """Return `_target_` and the arguments that build the model; None for a model without `arguments`."""
    if not isinstance(model, abilities.HasArguments):
        return None
    return {"_target_": f"{type(model).__module__}.{type(model).__name__}", **model.arguments}


def _errors_document(part: Errors, number: int) -> dict[str, Any]:
    values = {name: value for name, value in part.finite().items() if name != "loss"}
    if "energy_mae_kcal_mol" in values:
        values["energy_mae_mev"] = part.energy_mae_mev
    return {"structures": number, **values}


def _worst(predictions: Predictions, module: Fitting) -> int:
    deviation = np.abs(predictions.energy.mean(axis=0) - module.labels.energy[predictions.indices])
    finite = np.isfinite(deviation)
    return int(predictions.indices[int(np.nanargmax(deviation)) if finite.any() else 0])


def _elements(data: Labelled, chosen: np.ndarray) -> list[str]:
    """Symbols of the elements in structures `chosen`."""
    from ase.data import chemical_symbols

    numbers = np.unique(np.asarray(data.numbers)[atoms_of(np.asarray(data.offsets), chosen)])
    return [chemical_symbols[number] for number in numbers.tolist()]


def _write(
    module: Fitting,
    data: Labelled,
    predictions: Mapping[str, Predictions],
    table_part: str,
    calibrated: Uncertainty | None,
    forces: ForceFactor | None,
    run: Run,
) -> None:
    """Write structures.csv (a row per held-out structure), forces.npz (a row per atom), dipoles.npz and stress.npz.

    All in atomic units. Standard deviations are scaled by the calibrated factors where there are any.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["structure", "part", "formula", "label_hartree", "energy_hartree", "energy_std_hartree", "outside"]
    )
    for part in ("validation", "test", "unseen") if table_part != "train" else ("train",):
        if part not in predictions:
            continue
        held_out = predictions[part]
        std = spread.deviation(held_out) * (1.0 if calibrated is None else calibrated.factor)
        outside = spread.outside(held_out, module.labels, calibrated)
        rows = zip(
            held_out.indices, module.labels.energy[held_out.indices], held_out.energy.mean(axis=0), std, strict=True
        )
        for (index, *numbers), is_outside in zip(rows, outside, strict=True):
            name = data.groups[int(data.group[index])]
            writer.writerow(
                [index, part, name, *(f"{x:.9f}" if np.isfinite(x) else "" for x in numbers), int(is_outside)]
            )
    write_atomically(run.directory / TABLE, text.getvalue())
    labels, held_out = module.labels, predictions[table_part]
    if held_out.forces is not None and labels.forces is not None:
        atoms = atoms_of(labels.offsets, held_out.indices)
        arrays = {
            "label": labels.forces[atoms],
            "predicted": held_out.forces,
            "numbers": np.asarray(data.numbers)[atoms],
        }
        if held_out.forces_std is not None:
            arrays["std"] = held_out.forces_std * (1.0 if forces is None else forces.factor)
        _write_arrays(run.directory / ARRAYS, arrays)
    for kind in KINDS:
        label = getattr(labels, kind.name)
        kind.write(
            run.directory,
            getattr(held_out, kind.name),
            None if label is None else label[held_out.indices],
            held_out.indices,
        )


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


def lines(document: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the terminal's lines for the `training` part of result.json."""
    for name, label in _PARTS:
        part = document["parts"].get(name)
        if part is None:
            continue
        texts = []
        if "energy_mae_kcal_mol" in part:
            texts.append(f"E {part['energy_mae_kcal_mol']:.3f} kcal/mol ({part['energy_mae_mev']:.2f} meV)")
        if "forces_mae_mev_angstrom" in part:
            texts.append(f"F {part['forces_mae_mev_angstrom']:.2f} meV/Å")
        if "stress_mae_mev_angstrom3" in part:
            texts.append(f"S {part['stress_mae_mev_angstrom3']:.3g} meV/Å³")
        if "dipole_mae_debye" in part:
            texts.append(f"D {part['dipole_mae_debye']:.4f} debye")
        yield [label, f"{part['structures']} structures", *texts, "mean absolute"]
    yield from baseline.lines(document.get("baseline"))
    yield from spread.lines(document.get("uncertainty") or {})
    early = ", stopped by its rule" if document.get("stopped_early") else ""
    yield ["epochs", f"{document['epochs']}{early}"]
    if document.get("conformations_per_cpu_s"):
        yield ["speed", f"{document['conformations_per_cpu_s']:.0f} conformations per CPU second"]
