"""DM21's analytic gradients against differences of its energies, and the noise of the grid in both.

`python benchmarks/dm21_gradients.py [--basis def2-svp] [--levels 1 2 3 4 5]`; writes dm21_gradients.md and .png. The
molecules are rotated so that no symmetry hides an error. Differences are of fourth order, 0.01 bohr apart, along one
random direction per atom; the noise is the change on rotation of the molecule without its grid points.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from ase.build import molecule
from pyscf import dft, gto
from scipy.spatial.transform import Rotation

import fusion
from runs import machine, write_table

STEP, TURNS = 0.01, 4
NAMES = {"H2O": "water", "H2CO": "formaldehyde"}
Make = Callable[[gto.Mole], Any]


def built(name: str, basis: str) -> gto.Mole:
    """One of ASE's molecules with displaced atoms."""
    atoms = molecule(name)
    places = atoms.positions + np.random.default_rng(1).uniform(-0.05, 0.05, atoms.positions.shape)
    return gto.M(atom=list(zip(atoms.get_chemical_symbols(), places, strict=True)), basis=basis, verbose=0)


def at(mol: gto.Mole, coords: np.ndarray) -> gto.Mole:
    """The molecule with other positions (A, 3) in bohr."""
    return mol.set_geom_(coords, unit="Bohr", inplace=False)


def learned(level: int) -> Make:
    """DM21 on a grid."""

    def make(mol: gto.Mole) -> Any:
        mean_field = fusion.kohn_sham(mol, "dm21", grid_level=level, conv_tol=1e-11)
        mean_field.conv_tol_grad = 1e-6
        return mean_field

    return make


def conventional(level: int) -> Make:
    """B3LYP on the same grid."""

    def make(mol: gto.Mole) -> Any:
        mean_field = dft.RKS(mol, xc="b3lyp")
        mean_field.grids.level, mean_field.conv_tol = level, 1e-11
        return mean_field

    return make


def gradient(mean_field: Any, response: bool = True) -> np.ndarray:
    """Analytic gradient (A, 3), hartree/bohr."""
    method = mean_field.nuc_grad_method()
    method.grid_response = response
    return np.asarray(method.kernel())


def converged(mean_field: Any, density: Any = None) -> Any:
    """Return the object after its SCF; stop the benchmark if that fails."""
    mean_field.kernel(dm0=density)
    if not mean_field.converged:
        raise SystemExit("an SCF did not converge")
    return mean_field


def errors(make: Make, mol: gto.Mole) -> dict[str, float]:
    """Largest differences between analytic and numerical gradients along one direction per atom."""
    here = converged(make(mol))
    density, coords = here.make_rdm1(), mol.atom_coords()
    analytic = {"with": gradient(here), "without": gradient(here, response=False)}
    largest = dict.fromkeys(analytic, 0.0)
    random = np.random.default_rng(2)
    for atom in range(mol.natm):
        direction = random.normal(size=3)
        direction /= np.linalg.norm(direction)
        energies = []
        for shift in (-2, -1, 1, 2):
            moved = coords.copy()
            moved[atom] += shift * STEP * direction
            energies.append(converged(make(at(mol, moved)), density).e_tot)
        slope = (energies[0] - 8.0 * energies[1] + 8.0 * energies[2] - energies[3]) / (12.0 * STEP)
        for key, values in analytic.items():
            largest[key] = max(largest[key], abs(float(values[atom] @ direction) - slope))
    return largest


def noise(make: Make, mol: gto.Mole) -> dict[str, float]:
    """Range of the energy, and largest deviation of a gradient from the mean, over orientations of the molecule."""
    energies, gradients = [], []
    for turn in Rotation.random(TURNS, random_state=3).as_matrix():
        mean_field = converged(make(at(mol, mol.atom_coords() @ turn.T)))
        energies.append(mean_field.e_tot)
        gradients.append(gradient(mean_field) @ turn)
    deviations = np.abs(np.array(gradients) - np.mean(gradients, axis=0))
    return {"energy": float(np.ptp(energies)), "gradient": float(deviations.max())}


def cost(name: str, basis: str) -> dict[str, float]:
    """Seconds of one SCF cycle's matrices (integrals kept from earlier ones), of the first, and of a gradient."""
    mean_field = fusion.kohn_sham(built(name, basis), "dm21", conv_tol=1e-7)
    density = mean_field.get_init_guess(mean_field.mol, "b3lyp")
    began = time.perf_counter()
    mean_field.get_veff(mean_field.mol, density)
    first = time.perf_counter() - began
    converged(mean_field, density)
    density, cycles, gradients = mean_field.make_rdm1(), [], []
    for _ in range(3):
        began = time.perf_counter()
        mean_field.get_veff(mean_field.mol, density)
        cycles.append(time.perf_counter() - began)
        began = time.perf_counter()
        gradient(mean_field)
        gradients.append(time.perf_counter() - began)
    return {"functions": mean_field.mol.nao, "first": first, "cycle": min(cycles), "gradient": min(gradients)}


def draw(measured: dict[str, Any], levels: Sequence[int], path: Path) -> None:
    """Draw errors on the left, noise on the right, against the grid level."""
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.8), sharey=True, constrained_layout=True)
    for name, colour in zip(NAMES, ("tab:blue", "tab:red"), strict=True):
        rows = [(level, measured[f"{name} {level}"]) for level in levels if f"{name} {level}" in measured]
        if not rows:
            continue
        at_level = [level for level, _ in rows]
        axes[0].plot(at_level, [row["without"] for _, row in rows], "o--", color=colour, label=f"{name}, grid held")
        axes[0].plot(at_level, [row["with"] for _, row in rows], "o-", color=colour, label=f"{name}, grid moves")
        axes[1].plot(at_level, [row["dm21"]["gradient"] for _, row in rows], "o-", color=colour, label=f"{name}, DM21")
        axes[1].plot(
            at_level, [row["b3lyp"]["gradient"] for _, row in rows], "s:", color=colour, label=f"{name}, B3LYP"
        )
    axes[0].axhline(1e-5, color="grey", linewidth=0.8)
    axes[0].set_title("error beside differences of energies")
    axes[1].set_title("change with the molecule's orientation")
    axes[0].set_ylabel("gradient, hartree/bohr")
    for one in axes:
        one.set_yscale("log")
        one.set_xlabel("grid level")
        one.set_xticks(list(levels))
        one.legend(fontsize=8)
    figure.savefig(path, dpi=150)


def main(basis: str, levels: Sequence[int], sizes: Sequence[str], store: Path) -> None:
    """Measure what `store` lacks and write the page."""
    measured: dict[str, Any] = json.loads(store.read_text()) if store.is_file() else {}
    for name in NAMES:
        for level in levels:
            key = f"{name} {level}"
            if key not in measured:
                mol = built(name, basis)
                measured[key] = errors(learned(level), mol)
                measured[key] |= {"dm21": noise(learned(level), mol), "b3lyp": noise(conventional(level), mol)}
                store.write_text(json.dumps(measured))
                print(key, measured[key], flush=True)
    for name in sizes:
        if f"cost {name}" not in measured:
            measured[f"cost {name}"] = cost(name, basis)
            store.write_text(json.dumps(measured))
    report(measured, basis, levels, sizes)


def report(measured: dict[str, Any], basis: str, levels: Sequence[int], sizes: Sequence[str]) -> None:
    """Write the table and the picture."""
    here = Path(__file__).parent
    draw(measured, levels, here / "dm21_gradients.png")
    rows = []
    for name in NAMES:
        for level in levels:
            row = measured.get(f"{name} {level}")
            if row is None:
                continue
            numbers = [row["with"], row["without"]]
            numbers += [row[method][what] for what in ("gradient", "energy") for method in ("dm21", "b3lyp")]
            rows.append([NAMES[name], level, *(f"{number:.1e}" for number in numbers)])
    timings = []
    for name in sizes:
        one = measured[f"cost {name}"]
        timings.append(
            f"{name} ({one['functions']} functions): {one['gradient'] / one['cycle']:.1f} cycles with kept integrals, "
            f"{one['gradient'] / one['first']:.1f} of the first, {one['gradient']:.1f} s"
        )
    notes = (
        f"DM21/{basis}, hartree and bohr. *Grid moves*: the analytic gradient as it is by default, against differences "
        f"of the energies ({STEP} bohr, fourth order, one random direction per atom, largest error); *grid held*: the "
        "same without the response of points and weights, as is usual elsewhere. *Noise*: over "
        f"{TURNS} orientations of the molecule, the largest deviation of a gradient's component from the mean, and the "
        "range of the energy; a finer grid, not a better derivative, makes it smaller.\n\n"
        "![](dm21_gradients.png)\n\n"
        f"Cost of a gradient at level 3 (one thread of {machine()}, loaded machine, best of three, alternating): "
        + "; ".join(timings)
        + "."
    )
    columns = ["molecule", "grid level", "error, grid moves", "error, grid held"]
    columns += ["noise of the gradient", "the same, B3LYP", "noise of the energy", "the same, B3LYP"]
    write_table(here / "dm21_gradients.md", "Gradients of DM21", notes, columns, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--basis", default="def2-svp")
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--sizes", nargs="*", default=["H2O", "CH4", "C2H6"])
    parser.add_argument("--store", type=Path, default=Path("dm21_gradients.json"), help="what is done is kept here")
    given = parser.parse_args()
    main(given.basis, given.levels, given.sizes, given.store)
