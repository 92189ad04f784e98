"""Reaction energies of GMTKN55 subsets by DM21 and by B3LYP: mean errors against the published references.

`python benchmarks/dm21_thermo.py FILE DIRECTORY [MINUTES]`; writes dm21_thermo.md. FILE is a JSON file of subsets, each
with `systems` (elements, positions in Angstrom, charge, uhf) and `reactions` (systems, stoich, ref in kcal/mol);
DIRECTORY keeps each finished system, so that another call resumes. Small systems are first, in turn from every subset,
until the time is used up. A reaction counts if both methods converged for all of its systems; the others are listed.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from pyscf import dft, gto

import fusion
from fusion.chemistry.units import KCAL_MOL_PER_HARTREE
from runs import write_table

SUBSETS = ("SIE4x4", "BH76", "W4-11", "ISO34")
BASIS = "def2-tzvp"
GRID_LEVEL = 3


def molecule(system: dict[str, Any]) -> gto.Mole:
    """The PySCF molecule of a system in the file."""
    atoms = list(zip(system["elements"], system["positions"], strict=True))
    return gto.M(atom=atoms, basis=BASIS, charge=system["charge"], spin=system["uhf"], verbose=0)


def energies(mol: gto.Mole) -> dict[str, float | None]:
    """Energies in hartree, None if the calculation does not converge."""
    common = (dft.UKS if mol.spin else dft.RKS)(mol, xc="b3lyp")
    learned = fusion.kohn_sham(mol, "dm21")
    totals: dict[str, float | None] = {}
    for name, mean_field in (("B3LYP", common), ("DM21", learned)):
        mean_field.grids.level = GRID_LEVEL
        mean_field.kernel()
        totals[name] = float(mean_field.e_tot) if mean_field.converged else None
    return totals


def compute(subsets: dict[str, Any], directory: Path, minutes: float) -> dict[str, dict[str, Any]]:
    """Energies by subset/system; those with a file in the directory are not computed again."""
    directory.mkdir(parents=True, exist_ok=True)
    systems = {f"{subset}/{name}": system for subset in SUBSETS for name, system in subsets[subset]["systems"].items()}
    sizes = {key: molecule(system).nao for key, system in systems.items()}
    turns = [
        sorted((key for key in systems if key.startswith(f"{subset}/")), key=sizes.__getitem__) for subset in SUBSETS
    ]
    order = [key for turn in zip_longest(*turns) for key in turn if key is not None]
    documents: dict[str, dict[str, Any]] = {}
    began = time.monotonic()
    for key in order:
        file = directory / f"{key.replace('/', '_')}.json"
        if not file.is_file():
            if time.monotonic() - began > 60.0 * minutes:
                continue
            file.write_text(json.dumps(energies(molecule(systems[key]))))
            print(f"{key}  {time.monotonic() - began:.0f} s", flush=True)
        documents[key] = json.loads(file.read_text())
    return documents


def main(path: Path, directory: Path, minutes: float) -> None:
    """Compute what the time allows and write the table."""
    subsets = json.loads(path.read_text())["subsets"]
    done = compute(subsets, directory, minutes)
    rows = []
    for subset in SUBSETS:
        errors: dict[str, list[float]] = {"DM21": [], "B3LYP": []}
        for reaction in subsets[subset]["reactions"]:
            parts = [done.get(f"{subset}/{name}", {}) for name in reaction["systems"]]
            if any(part.get(name) is None for part in parts for name in errors):
                continue
            for name, values in errors.items():
                energy = sum(c * part[name] for c, part in zip(reaction["stoich"], parts, strict=True))
                values.append(KCAL_MOL_PER_HARTREE * energy - reaction["ref"])
        number = f"{len(errors['DM21'])} of {len(subsets[subset]['reactions'])}"
        figures = [f"{statistic(values):.2f}" for statistic in (_mae, np.mean) for values in errors.values() if values]
        rows.append([subset, number, *(figures or [""] * 4)])
    failed = {name: [key for key, part in done.items() if part[name] is None] for name in ("DM21", "B3LYP")}
    notes = (
        f"{BASIS}, grid level {GRID_LEVEL}, no dispersion correction; kcal/mol, reactions of systems that were "
        "computed (smallest first). Not converged: "
        + "; ".join(f"{name}: {', '.join(keys) or 'none'}" for name, keys in failed.items())
        + "."
    )
    columns = ["subset", "reactions", "DM21 MAE", "B3LYP MAE", "DM21 mean error", "B3LYP mean error"]
    write_table(Path(__file__).with_suffix(".md"), "Reaction energies", notes, columns, rows)


def _mae(values: list[float]) -> float:
    return float(np.mean(np.abs(values)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 60.0)
