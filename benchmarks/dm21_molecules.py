"""Structures, harmonic frequencies, dipoles and infrared intensities with DM21, B3LYP and from experiment.

`python benchmarks/dm21_molecules.py [--basis def2-svp] [--directory runs]`; writes dm21_molecules.md. DM21 by the
command line (task=vibrations, which relaxes first), B3LYP by PySCF in the same basis and on the same grid, its Hessian
by the same central differences of forces. Finished parts are not repeated.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.io import read
from ase.optimize import LBFGS
from pyscf import dft

from fusion.chemistry import energy_zeros, system_input, units
from fusion.chemistry.system import System
from fusion.functionals.scf.kohn_sham import molecule
from fusion.methods import protocol
from fusion.methods.ase_calculator import FusionCalculator
from fusion.runs.results import Result
from fusion.tasks.geometry.normal_modes import normal_modes
from fusion.tasks.vibrations.infrared import dipole_magnitude, intensities
from runs import run, write_table

GRID_LEVEL, FMAX = 3, 1e-5
MOLECULES = ("h2o", "nh3", "ch2o")
COORDINATES: dict[str, dict[str, tuple[int, ...]]] = {
    "h2o": {"r(OH), Å": (0, 1), "HOH, °": (1, 0, 2)},
    "nh3": {"r(NH), Å": (0, 1), "HNH, °": (1, 0, 2)},
    "ch2o": {"r(CO), Å": (0, 1), "r(CH), Å": (1, 2), "HCH, °": (2, 1, 3)},
}
EXPERIMENT: dict[str, tuple[list[float], float, list[float]]] = {
    # coordinates at equilibrium, dipole in debye, observed fundamentals in cm^-1
    "h2o": ([0.958, 104.5], 1.855, [1595, 3657, 3756]),
    "nh3": ([1.012, 106.7], 1.472, [950, 1627, 1627, 3337, 3444, 3444]),
    "ch2o": ([1.203, 1.101, 116.3], 2.332, [1167, 1249, 1500, 1746, 2782, 2843]),
}
"""H2O: Benedict, Gailar and Plyler 1956; NH3: Duncan and Mills 1964; H2CO: Yamada et al. 1971; fundamentals of
Shimanouchi, Tables of Molecular Vibrational Frequencies, 1972."""


class B3LYP:
    """`Method` around PySCF's B3LYP, with the response of the grid in its forces."""

    name, label, kind, energy_zero = "b3lyp", "B3LYP", "conventional", energy_zeros.TOTAL
    provides = frozenset({"energy", "forces", "dipole"})

    def __init__(self, basis: str) -> None:
        self.basis = basis

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        """Energy, forces and dipole of each system."""
        return [self._calculate(system) for system in systems]

    def _calculate(self, system: System) -> Result:
        mean_field = dft.RKS(molecule(system, self.basis), xc="b3lyp")
        mean_field.grids.level, mean_field.conv_tol = GRID_LEVEL, 1e-10
        result = Result(system, energy=float(mean_field.kernel()))
        gradient = mean_field.nuc_grad_method()
        gradient.grid_response = True
        result.properties["forces"] = -gradient.kernel()
        result.properties["dipole"] = np.asarray(mean_field.dip_moment(unit="AU", verbose=0))
        return result


def with_b3lyp(system: System, basis: str) -> dict[str, Any]:
    """Result of task=vibrations with B3LYP."""
    method = B3LYP(basis)
    atoms = system.to_atoms()
    atoms.calc = FusionCalculator(method)  # type: ignore[arg-type]
    LBFGS(atoms, logfile=None).run(fmax=FMAX * units.EV_PER_HARTREE / units.ANGSTROM_PER_BOHR, steps=100)
    system = system.moved(atoms.positions / units.ANGSTROM_PER_BOHR)
    (result,) = protocol.calculate(method, [system], {"hessian", "dipole", "dipole_derivatives"})
    modes = normal_modes(result.properties["hessian"], system.positions, system.nuclear_masses, False)
    return {
        "positions": system.positions.tolist(),
        "frequencies_cm1": modes.frequencies.tolist(),
        "ir_intensities_km_per_mol": intensities(modes, result.properties["dipole_derivatives"]).tolist(),
        "dipole_debye": dipole_magnitude(result.properties["dipole"]),
    }


def with_dm21(name: str, basis: str, directory: Path) -> dict[str, Any]:
    """Result of `python -m fusion +method=dm21 task=vibrations`."""
    words = ["+method=dm21", "task=vibrations", f"system={name}", f"method.basis={basis}"]
    if not (directory / name / "result.json").is_file():
        outcome = run([*words, f"method.grid_level={GRID_LEVEL}", "method.conv_tol=1e-10"], directory / name, 1)
        if outcome.status != 0:
            raise SystemExit(f"{name}: {outcome.result.get('message')}")
    return dict(json.loads((directory / name / "result.json").read_text()))


def relaxed_so_far(name: str, directory: Path) -> dict[str, Any]:
    """Structure of a run that has relaxed but not finished its Hessian."""
    atoms = read(directory / name / "relaxed.xyz")
    return {"system": {"positions": atoms.positions.tolist()}}


def value(positions: np.ndarray, atoms: tuple[int, ...]) -> float:
    """Bond (Angstrom) or angle (degrees)."""
    if len(atoms) == 2:
        return float(np.linalg.norm(positions[atoms[0]] - positions[atoms[1]]) * units.ANGSTROM_PER_BOHR)
    one, two = positions[atoms[0]] - positions[atoms[1]], positions[atoms[2]] - positions[atoms[1]]
    return float(np.degrees(np.arccos(one @ two / np.linalg.norm(one) / np.linalg.norm(two))))


def mode(document: dict[str, Any], number: int) -> str:
    """Frequency and intensity, or a dash if there are none yet."""
    if "frequencies_cm1" not in document:
        return "—"
    return f"{document['frequencies_cm1'][number]:.0f} ({document['ir_intensities_km_per_mol'][number]:.1f})"


def rows_of(name: str, learned: dict[str, Any], conventional: dict[str, Any]) -> list[list[str]]:
    """Table lines of one molecule: quantity, DM21, B3LYP, experiment."""
    measured, dipole, fundamentals = EXPERIMENT[name]
    mine = np.array(learned["system"]["positions"]) * units.BOHR_PER_ANGSTROM
    theirs = np.array(conventional["positions"])
    rows = []
    for (label, atoms), known in zip(COORDINATES[name].items(), measured, strict=True):
        digits = 4 if len(atoms) == 2 else 1
        rows.append([label, *(f"{value(places, atoms):.{digits}f}" for places in (mine, theirs)), f"{known:g}"])
    both = (learned, conventional)
    dipoles = [f"{document['dipole_debye']:.3f}" if "dipole_debye" in document else "—" for document in both]
    rows.append(["dipole, D", *dipoles, f"{dipole:g}"])
    for number, known in enumerate(fundamentals):
        rows.append([f"mode {number + 1}", *(mode(document, number) for document in both), f"{known:g}"])
    return [[name.upper(), *row] for row in rows]


def main(basis: str, directory: Path, only_done: bool) -> None:
    """Run the molecules, or read the runs that are done, and write the page."""
    directory.mkdir(parents=True, exist_ok=True)
    rows: list[list[str]] = []
    remarks = []
    for name in MOLECULES:
        finished = not only_done or (directory / name / "result.json").is_file()
        learned = with_dm21(name, basis, directory) if finished else relaxed_so_far(name, directory)
        store = directory / f"b3lyp-{name}.json"
        if not store.is_file():
            store.write_text(json.dumps(with_b3lyp(molecule_named(name), basis)))
        rows += rows_of(name, learned, json.loads(store.read_text()))
        if not finished:
            continue
        asymmetry = learned["derived"]["hessian"]["asymmetry_hartree_per_bohr2"]
        lost = max(abs(value) for value in learned["vibrations"]["residual_of_removed_cm1"])
        remarks.append(
            f"{name.upper()}: {learned['relaxation']['steps']} steps to {FMAX:.0e} Ha/bohr, "
            f"asymmetry of the Hessian {asymmetry:.0e} Ha/bohr², translations and rotations within {lost:.0f} cm⁻¹"
        )
    notes = (
        f"`python -m fusion +method=dm21 task=vibrations system=NAME method.basis={basis} method.conv_tol=1e-10`, grid "
        f"level {GRID_LEVEL}; B3LYP by PySCF in the same basis, on the same grid. Modes: harmonic frequency in cm⁻¹, "
        "infrared intensity in km/mol in brackets; by rising frequency, of experiment the observed fundamentals, which "
        "lie some per cent below harmonic frequencies. Experimental structures are those at equilibrium. A dash: the "
        "Hessian was not run to its end.\n\n"
        "DM21's own noise — " + "; ".join(remarks) + "."
    )
    columns = ["molecule", "", f"DM21/{basis}", f"B3LYP/{basis}", "experiment"]
    write_table(Path(__file__).with_suffix(".md"), "DM21: structures and vibrations", notes, columns, rows)


def molecule_named(name: str) -> System:
    """The system of the command line's `system=NAME`."""
    from omegaconf import OmegaConf

    file = Path(__file__).parents[1] / "conf" / "system" / f"{name}.yaml"
    return system_input.read(OmegaConf.to_container(OmegaConf.load(file)))  # type: ignore[arg-type]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--basis", default="def2-svp")
    parser.add_argument("--directory", type=Path, default=Path("runs/dm21_molecules"), help="what is done is kept here")
    parser.add_argument("--only-done", action="store_true", help="start nothing: the table of what there is")
    given = parser.parse_args()
    main(given.basis, given.directory, given.only_done)
