"""Errors of the published ANI models: against S66x8 at ωB97X/6-31G(d), and against an independent implementation.

`FUSION_TEST_DATA=DIRECTORY python benchmarks/ani_accuracy.py`; writes ani_accuracy.md. The directory holds
data/ani/s66x8_wb97x_dev.h5 (11 dimers at 8 distances; its `forces` are gradients) and reference/ani_reference.json.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms

import fusion
from fusion.chemistry.structures import from_atoms
from fusion.chemistry.units import BOHR_PER_ANGSTROM, KCAL_MOL_PER_HARTREE
from fusion.potentials import PotentialMethod
from runs import write_table

MODELS = {"ani-1x": "ani1x", "ani-1ccx": "ani1ccx", "ani-2x": "ani2x"}


def s66x8(method: PotentialMethod, path: Path) -> dict[str, float]:
    """MAE and RMSE of total energies (kcal/mol) and of components of forces (kcal/mol/Angstrom)."""
    energies: list[float] = []
    forces: list[np.ndarray] = []
    with h5py.File(path) as file:
        for dimer in file["s66x8"].values():
            symbols = [symbol.decode() for symbol in dimer["species"][()]]
            systems = [from_atoms(Atoms(symbols, positions), name="x") for positions in dimer["coordinates"]]
            results = method.calculate(systems, {"forces"})
            for result, energy, gradient in zip(results, dimer["energies"], dimer["forces"], strict=True):
                energies.append((result.energy or np.nan) - energy)
                forces.append((np.asarray(result.properties["forces"]) * BOHR_PER_ANGSTROM + gradient).ravel())
    statistics = {}
    for name, errors in (("energy", np.array(energies)), ("force", np.concatenate(forces))):
        errors = errors * KCAL_MOL_PER_HARTREE
        statistics |= {f"{name} MAE": float(np.abs(errors).mean()), f"{name} RMSE": float(np.sqrt((errors**2).mean()))}
    return statistics


def worst(method: PotentialMethod, key: str, reference: dict[str, Any]) -> dict[str, float]:
    """Largest deviations from the reference values: Ha per 100 atoms or Ha, Ha/Angstrom, Ha/Angstrom^2."""
    largest = {"energy": 0.0, "per 100 atoms": 0.0, "forces": 0.0, "hessian": 0.0}
    for case in reference["cases"].values():
        if (expected := case["models"].get(key)) is None:
            continue
        cell = case.get("cell")
        atoms = Atoms(case["symbols"], case["positions"], cell=cell, pbc=cell is not None)
        wanted = {"forces", *(["hessian"] if "hessian_Ha_A2" in expected else [])}
        (result,) = method.calculate([from_atoms(atoms, name="x")], wanted)
        error = abs((result.energy or np.nan) - expected["energy"])
        largest["energy"] = max(largest["energy"], error)
        largest["per 100 atoms"] = max(largest["per 100 atoms"], error / max(len(atoms) / 100, 1.0))
        forces = np.asarray(result.properties["forces"]) * BOHR_PER_ANGSTROM
        largest["forces"] = max(largest["forces"], float(np.abs(forces - expected["forces"]).max()))
        if "hessian" in wanted:
            hessian = np.asarray(result.properties["hessian"]) * BOHR_PER_ANGSTROM**2
            deviation = np.abs(hessian.ravel() - np.ravel(expected["hessian_Ha_A2"])).max()
            largest["hessian"] = max(largest["hessian"], float(deviation))
    return largest


def main() -> None:
    """Compute all models in both precisions and write the table."""
    data = Path(os.environ["FUSION_TEST_DATA"])
    reference = json.loads((data / "reference" / "ani_reference.json").read_text())
    rows = []
    for name, key in MODELS.items():
        for dtype in ("float64", "float32"):
            method = PotentialMethod(name, fusion.load(name), dtype=dtype)
            errors = [f"{value:.3f}" for value in s66x8(method, data / "data" / "ani" / "s66x8_wb97x_dev.h5").values()]
            deviations = worst(method, key, reference)
            if name == "ani-1ccx":
                errors = ["", "", "", ""]  # trained on another level of theory
            rows.append([name, dtype, *errors, *(f"{value:.0e}" for value in deviations.values())])
    note = (
        "S66x8: 88 points (11 dimers at 8 distances), total energies in kcal/mol and forces in kcal/mol/Angstrom at "
        "ωB97X/6-31G(d). Reference: largest deviation over 14 systems up to 264 atoms, one of them periodic, from an "
        "independent implementation in float64: hartree (and per 100 atoms), hartree/Angstrom, hartree/Angstrom^2."
    )
    header = ["model", "dtype", "S66x8 energy MAE", "RMSE", "forces MAE", "RMSE"]
    header += ["reference: energy", "per 100 atoms", "forces", "Hessian"]
    write_table(Path(__file__).with_name("ani_accuracy.md"), "Accuracy of the ANI models", note, header, rows)


if __name__ == "__main__":
    main()
