"""A chain of ten hydrogen atoms, compressed and stretched: DM21 beside B3LYP, PBE and the exact energy.

`python benchmarks/dm21_hydrogen_chain.py` (minutes); writes dm21_hydrogen_chain.md and .png. The exact energy is full
configuration interaction in the same minimal basis, as in Motta et al., Phys. Rev. X 7, 031059 (2017).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pyscf import dft, fci, gto, scf

import fusion
from fusion.plots.style import BLUE, GREEN, GREY, ORANGE, picture
from runs import write_table

ATOMS = 10
BASIS = "sto-6g"
GRID_LEVEL = 2
DISTANCES = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.4, 2.8, 3.2, 3.6)


def chain(distance: float) -> gto.Mole:
    """Equally spaced hydrogen atoms, `distance` in bohr."""
    atoms = [("H", (0.0, 0.0, index * distance)) for index in range(ATOMS)]
    return gto.M(atom=atoms, unit="Bohr", basis=BASIS, verbose=0)


def conventional(mol: gto.Mole, xc: str) -> float:
    """Restricted Kohn-Sham energy; not a number where it does not converge."""
    mean_field = dft.RKS(mol, xc=xc)
    mean_field.grids.level = GRID_LEVEL
    mean_field.kernel()
    return float(mean_field.e_tot) if mean_field.converged else np.nan


def learned(mol: gto.Mole) -> float:
    """DM21, restricted; not a number where it does not converge."""
    mean_field = fusion.kohn_sham(mol, "dm21", grid_level=GRID_LEVEL)
    mean_field.kernel()
    return float(mean_field.e_tot) if mean_field.converged else np.nan


def main() -> None:
    """Compute the curves, write the table and draw them."""
    rows = []
    energies = []
    for distance in DISTANCES:
        mol = chain(distance)
        exact = float(fci.FCI(scf.RHF(mol).run()).kernel()[0])
        energies.append((exact, learned(mol), conventional(mol, "b3lyp"), conventional(mol, "pbe")))
        errors = [f"{1000 * (energy - exact) / ATOMS:+.1f}" for energy in energies[-1][1:]]
        print(distance, energies[-1], flush=True)
        rows.append([distance, f"{exact:.6f}", *(f"{energy:.5f}" for energy in energies[-1][1:]), *errors])
    notes = (
        f"H{ATOMS}, {BASIS}, spin-restricted, grid level {GRID_LEVEL}; hartree, errors in millihartree per atom. nan: "
        "not converged. Functionals carry the correlation of a complete basis, full configuration interaction only "
        "that of this minimal one: compare how the errors change along the chain, not how large they are."
    )
    columns = ["R / bohr", "exact (FCI)", "DM21", "B3LYP", "PBE", "DM21 error", "B3LYP error", "PBE error"]
    path = Path(__file__).with_suffix(".md")
    write_table(path, "A hydrogen chain, compressed and stretched", notes, columns, rows)
    with picture(path.with_suffix(".png")) as figure:
        axes = figure.subplots()
        labels = (("exact (FCI)", GREY), ("DM21", BLUE), ("B3LYP", ORANGE), ("PBE", GREEN))
        for curve, (label, colour) in zip(np.array(energies).T, labels, strict=True):
            axes.plot(DISTANCES, curve / ATOMS, "o-", color=colour, ms=4, lw=1.4, label=label)
        axes.set_xlabel("R / bohr")
        axes.set_ylabel("energy per atom / hartree")
        axes.set_title(f"H{ATOMS} chain, {BASIS}, spin-restricted", loc="left")
        axes.legend()


if __name__ == "__main__":
    main()
