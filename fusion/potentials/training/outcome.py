"""What a training has led to: errors on every part of the data, tables, the result."""

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
from fusion.potentials.training import spread
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
_PARTS: Final = (
    ("train", "trained on"),
    ("validation", "validation"),
    ("test", "test"),
    ("unseen", "new molecules"),
)


def finish(module: Fitting, data: Labelled, split: Split, run: Run) -> Result:
    """Errors of the trained model; the first rank writes the tables of what was held out."""
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    if split.settings.get("unseen_molecules"):  # their errors are of another kind
        unseen = split.unseen(data)
        parts |= {"test": split.test[~unseen], "unseen": split.test[unseen]}
    found: dict[str, Predictions] = {}
    measured: dict[str, Any] = {}
    final = Weights(1.0, 0.0, 0.0)
    for name, indices in parts.items():
        if len(indices):
            found[name] = predict(module.passes, module.labels, indices, module.members, _BATCH, module.device)
            measured[name] = _told(errors(found[name], module.labels, final), len(indices))
    held = next(name for name in ("test", "validation", "train") if name in found)
    known, forces = spread.uncertainty(found, module.labels), spread.force_factor(found, module.labels)
    if processes.rank() == 0:
        _write(module, data, found, held, known, forces, run)
    details: dict[str, Any] = {
        "data": " + ".join(data.sources),
        "parts": measured,
        "uncertainty": spread.document(found, module.labels, known, forces),
        "elements": _elements(data, split.train),
        "epochs": module.descent.done // module.per_epoch,
        "steps": module.descent.done,
        "batch": module.settings.batch,
        "members": module.members,
        "energy_zero": data.energy_zero,
        "charges": np.unique(np.asarray(data.charge)[split.train]).tolist(),
        "spins": [int(spin) for spin in np.unique(data.spins(split.train))],
        "parameters": sum(p.numel() for p in module.model.parameters()),
        "trained_parameters": sum(p.numel() for p in module.descent.parameters),
        "model": described(module.model),
        "stopped_early": module.descent.done < module.total,
        "conformations_per_cpu_s": round(module.seen / module.cpu_s, 1) if module.cpu_s else None,
    }
    energies = getattr(module.model, "self_energies", None)
    if energies is not None:
        values = energies.values.detach().cpu().tolist()
        details["self_energies_hartree"] = dict(zip(module.model.elements, values, strict=True))  # type: ignore[arg-type]
    worst = _worst(found[held], module)
    return Result(data.system(worst), details={"training": details})


def described(model: nn.Module) -> dict[str, Any] | None:
    """`_target_` and arguments that build the model; None where it does not say them, being as configured."""
    arguments = getattr(model, "arguments", None)
    return None if arguments is None else {"_target_": f"{type(model).__module__}.{type(model).__name__}", **arguments}


def _told(found: Errors, number: int) -> dict[str, Any]:
    values = {name: value for name, value in found.known().items() if name != "loss"}
    if "energy_mae_kcal_mol" in values:
        values["energy_mae_mev"] = found.energy_mae_mev
    return {"structures": number, **values}


def _worst(found: Predictions, module: Fitting) -> int:
    deviation = np.abs(found.energy.mean(axis=0) - module.labels.energy[found.indices])
    known = np.isfinite(deviation)
    return int(found.indices[int(np.nanargmax(deviation)) if known.any() else 0])


def _elements(data: Labelled, chosen: np.ndarray) -> list[str]:
    """Of the structures chosen."""
    from ase.data import chemical_symbols

    numbers = np.unique(np.asarray(data.numbers)[atoms_of(np.asarray(data.offsets), chosen)])
    return [chemical_symbols[number] for number in numbers.tolist()]


def _write(
    module: Fitting,
    data: Labelled,
    found: Mapping[str, Predictions],
    held: str,
    calibrated: Uncertainty | None,
    forces: ForceFactor | None,
    run: Run,
) -> None:
    """structures.csv, a row for each structure held out, forces.npz, one for each of their atoms, dipoles.npz and
    stress.npz of those with such labels; atomic units. Standard deviations are the `calibrated` ones, if there are."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["structure", "part", "formula", "label_hartree", "energy_hartree", "energy_std_hartree", "outside"]
    )
    for part in ("validation", "test", "unseen") if held != "train" else ("train",):
        if part not in found:
            continue
        one = found[part]
        std = spread.deviation(one) * (1.0 if calibrated is None else calibrated.factor)
        beyond = spread.outside(one, module.labels, calibrated)
        rows = zip(one.indices, module.labels.energy[one.indices], one.energy.mean(axis=0), std, strict=True)
        for (index, *numbers), far in zip(rows, beyond, strict=True):
            name = data.groups[int(data.group[index])]
            writer.writerow([index, part, name, *(f"{x:.9f}" if np.isfinite(x) else "" for x in numbers), int(far)])
    write_atomically(run.directory / TABLE, text.getvalue())
    labels, one = module.labels, found[held]
    if one.forces is not None and labels.forces is not None:
        atoms = atoms_of(labels.offsets, one.indices)
        arrays = {"label": labels.forces[atoms], "predicted": one.forces, "numbers": np.asarray(data.numbers)[atoms]}
        if one.forces_std is not None:
            arrays["std"] = one.forces_std * (1.0 if forces is None else forces.factor)
        _write_arrays(run.directory / ARRAYS, arrays)
    for kind in KINDS:
        label = getattr(labels, kind.name)
        kind.write(run.directory, getattr(one, kind.name), None if label is None else label[one.indices], one.indices)


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


def lines(found: Mapping[str, Any]) -> Iterator[list[str]]:
    """The terminal's lines of the `training` part of result.json."""
    for name, label in _PARTS:
        part = found["parts"].get(name)
        if part is None:
            continue
        told = []
        if "energy_mae_kcal_mol" in part:
            told.append(f"E {part['energy_mae_kcal_mol']:.3f} kcal/mol ({part['energy_mae_mev']:.2f} meV)")
        if "forces_mae_mev_angstrom" in part:
            told.append(f"F {part['forces_mae_mev_angstrom']:.2f} meV/Å")
        if "stress_mae_mev_angstrom3" in part:
            told.append(f"S {part['stress_mae_mev_angstrom3']:.3g} meV/Å³")
        if "dipole_mae_debye" in part:
            told.append(f"D {part['dipole_mae_debye']:.4f} debye")
        yield [label, f"{part['structures']} structures", *told, "mean absolute"]
    yield from spread.lines(found.get("uncertainty") or {})
    early = ", stopped by its rule" if found.get("stopped_early") else ""
    yield ["epochs", f"{found['epochs']}{early}"]
    if found.get("conformations_per_cpu_s"):
        yield ["speed", f"{found['conformations_per_cpu_s']:.0f} conformations per CPU second"]
