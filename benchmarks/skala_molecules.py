"""Skala-1.0 beside DM21 and B3LYP: four systems with published energies and times, and atomisation energies of W4-11.

`python benchmarks/skala_molecules.py FILE DIRECTORY [MINUTES]`; writes skala_molecules.md. FILE is that of
dm21_thermo.py, DIRECTORY keeps each finished system, so that another call resumes. Atomisations are computed from the
smallest molecule on, until MINUTES of CPU time are used up; one counts if all three functionals converged.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from pyscf import dft, gto

import fusion
from fusion.chemistry.units import KCAL_MOL_PER_HARTREE
from fusion.functionals.scf.dispersion import dispersion
from runs import write_table

BASIS, GRID_LEVEL = "def2-tzvp", 3
ELEMENTS = {"H", "C", "N", "O", "F"}
"""Elements of the atomisations, so that most molecules need no new atoms."""
METHODS = ("Skala", "DM21", "B3LYP")
WATER = "O 0 0 0.1173; H 0 0.7572 -0.4692; H 0 -0.7572 -0.4692"
METHANE = (
    "C 0 0 0; H 0.6276 0.6276 0.6276; H -0.6276 -0.6276 0.6276; H -0.6276 0.6276 -0.6276; H 0.6276 -0.6276 -0.6276"
)
SYSTEMS = {
    "H": ("H 0 0 0", 1), "H2, 1.4 A": ("H 0 0 0; H 0 0 1.4", 0), "H2O": (WATER, 0), "CH4": (METHANE, 0),
    "O, triplet": ("O 0 0 0", 2),
}  # fmt: skip
"""Atoms (Angstrom) and unpaired electrons."""
PUBLISHED = {
    "H": "-0.499793, program",
    "H2, 1.4 A": "-1.070587, documentation",
    "H2O": "-76.415512, program",
    "O, triplet": "program: not converged in 277 s",
}
"""Energies without dispersion, hartree, and their sources."""


def converged(mol: gto.Mole, name: str) -> Any:
    """Run one of `METHODS` without dispersion."""
    if name == "B3LYP":
        mean_field = (dft.UKS if mol.spin else dft.RKS)(mol, xc="b3lyp")
        mean_field.grids.level = GRID_LEVEL
    else:
        mean_field = fusion.kohn_sham(mol, name.lower(), grid_level=GRID_LEVEL)
    mean_field.kernel()
    return mean_field


def measured(mol: gto.Mole, name: str) -> dict[str, Any]:
    """Energy (None if not converged), number of cycles and CPU seconds of one calculation."""
    began = time.process_time()
    mean_field = converged(mol, name)
    seconds = time.process_time() - began
    energy = float(mean_field.e_tot) if mean_field.converged else None
    return {"energy": energy, "cycles": int(mean_field.cycles), "cpu_s": seconds}


def computed(mol: gto.Mole, file: Path) -> dict[str, Any]:
    """Results of all methods, from `file` if it exists."""
    if not file.is_file():
        file.write_text(json.dumps({name: measured(mol, name) for name in METHODS}))
    result: dict[str, Any] = json.loads(file.read_text())
    return result


def systems(directory: Path) -> list[list[str]]:
    """Rows of the first table."""
    rows = []
    measured(gto.M(atom="He", basis="sto-3g", verbose=0), "DM21")  # compiles and imports what every calculation needs
    measured(gto.M(atom="He", basis="sto-3g", verbose=0), "Skala")
    for number, (name, (atoms, spin)) in enumerate(SYSTEMS.items()):
        mol = gto.M(atom=atoms, spin=spin, basis=BASIS, verbose=0)
        results = computed(mol, directory / f"system_{number}.json")
        energy = results["Skala"]["energy"]
        cells = [f"{r['cpu_s']:.1f} / {r['cycles']} = {r['cpu_s'] / r['cycles']:.2f}" for r in results.values()]
        rows.append([name, "not converged" if energy is None else f"{energy:.6f}", PUBLISHED.get(name, ""), *cells])
    return rows


def atomisations(subset: dict[str, Any], directory: Path, minutes: float) -> list[tuple[str, list[float]]]:
    """Molecules with errors of their atomisation energies (kcal/mol) by `METHODS`; all have D3(BJ) of B3LYP."""
    molecules = {name: _molecule(system) for name, system in subset["systems"].items()}
    began, rows = time.process_time(), []
    chosen = [r for r in subset["reactions"] if all(ELEMENTS.issuperset(molecules[n].elements) for n in r["systems"])]
    for reaction in sorted(chosen, key=lambda r: max(molecules[name].nao for name in r["systems"])):
        files = {name: directory / f"w4-11_{name}.json" for name in reaction["systems"]}
        if time.process_time() - began > 60.0 * minutes and not all(file.is_file() for file in files.values()):
            continue
        errors = []
        for method in METHODS:
            terms = [_energy(molecules[name], file, method) for name, file in files.items()]
            total = sum(c * e for c, e in zip(reaction["stoich"], terms, strict=True))
            errors.append(KCAL_MOL_PER_HARTREE * total - reaction["ref"])
        rows.append((reaction["systems"][0], errors))
        print(rows[-1], f"{time.process_time() - began:.0f} s", flush=True)
    return rows


def _molecule(system: dict[str, Any]) -> gto.Mole:
    atoms = list(zip(system["elements"], system["positions"], strict=True))
    return gto.M(atom=atoms, basis=BASIS, charge=system["charge"], spin=system["uhf"], verbose=0)


def _energy(mol: gto.Mole, file: Path, method: str) -> float:
    """Energy with dispersion, hartree; NaN if the SCF did not converge."""
    energy = computed(mol, file)[method]["energy"]
    return np.nan if energy is None else energy + dispersion(mol.atom_charges(), mol.atom_coords())[0]


def main(path: Path, directory: Path, minutes: float) -> None:
    """Compute what the time allows and write both tables."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = systems(directory)
    subset = json.loads(path.read_text())["subsets"]["W4-11"]
    errors = atomisations(subset, directory, minutes)
    complete = np.array([values for _, values in errors if np.isfinite(values).all()])
    table = [[name, *(f"{value:.1f}" for value in values)] for name, values in errors]
    summary = [["mean absolute error", *np.abs(complete).mean(axis=0)], ["mean error", *complete.mean(axis=0)]]
    table += [[str(name), *(f"{value:.2f}" for value in values)] for name, *values in summary]
    notes = (
        f"{BASIS}, grid level {GRID_LEVEL}, one thread. Energies in hartree, without dispersion. CPU time: seconds / "
        "cycles of the functional = seconds per cycle; the B3LYP start of Skala and DM21 is included. Published: from "
        "the documentation of Microsoft's program, or by that program (microsoft-skala 1.1.1) with the same "
        "parameters, basis set and grid."
    )
    columns = ["system", "Skala-1.0", "published", *(f"CPU time, {name}" for name in METHODS)]
    target = Path(__file__).with_suffix(".md")
    write_table(target, "Skala-1.0, DM21 and B3LYP", notes, columns, rows)
    first = target.read_text()
    notes = (
        f"Errors of {len(complete)} of the {len(subset['reactions'])} atomisation energies of W4-11 from which "
        f"dm21_thermo.md takes its own: the smallest molecules of {' '.join(sorted(ELEMENTS))}, {BASIS}, grid level "
        f"{GRID_LEVEL}; kcal/mol. All with D3(BJ) and the parameters of B3LYP, as published for Skala and DM21."
    )
    write_table(target, "Atomisation energies", notes, ["molecule", *METHODS], table)
    target.write_text(f"{first}\n{target.read_text().replace('# ', '## ', 1)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 15.0)
