"""Dissociation of H2+ and H2, spin-restricted: DM21, B3LYP and the exact energy in the same basis.

`python benchmarks/dm21_dissociation.py` (about ten minutes of two cores); writes dm21_dissociation.md and .png.
B3LYP gives H2+ a spurious minimum of energy at large distances (fractional charges), and restricted H2 too high an
energy (fractional spins); exactness for both is what DM21 was trained for.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pyscf import dft, fci, gto, scf

import fusion
from fusion.plotting import BLUE, GREY, ORANGE, picture
from runs import write_table

BASIS = "cc-pvdz"
GRID_LEVEL = 3
DISTANCES = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)


def molecule(distance: float, charge: int) -> gto.Mole:
    """Two hydrogen nuclei at a distance in Angstrom, with 2 - `charge` electrons."""
    return gto.M(atom=[("H", (0, 0, 0)), ("H", (0, 0, distance))], basis=BASIS, charge=charge, spin=charge, verbose=0)


def exact(mol: gto.Mole) -> float:
    """Hartree-Fock for one electron, full configuration interaction for two."""
    mean_field = (scf.UHF if mol.spin else scf.RHF)(mol).run()
    return float(mean_field.e_tot if mol.spin else fci.FCI(mean_field).kernel()[0])


def b3lyp(mol: gto.Mole) -> float:
    """B3LYP on the same grid; nan if it does not converge."""
    mean_field = (dft.UKS if mol.spin else dft.RKS)(mol, xc="b3lyp")
    mean_field.grids.level = GRID_LEVEL
    mean_field.kernel()
    return float(mean_field.e_tot) if mean_field.converged else np.nan


def dm21(mol: gto.Mole) -> float:
    """DM21; nan if it does not converge."""
    mean_field = fusion.kohn_sham(mol, "dm21", grid_level=GRID_LEVEL)
    mean_field.kernel()
    return float(mean_field.e_tot) if mean_field.converged else np.nan


def main() -> None:
    """Compute both curves, write the table and draw them."""
    rows, curves = [], {}
    for name, charge in (("H2+", 1), ("H2", 0)):
        mols = [molecule(distance, charge) for distance in DISTANCES]
        curves[name] = np.array([(exact(mol), dm21(mol), b3lyp(mol)) for mol in mols])
        for distance, (truth, learned, common) in zip(DISTANCES, curves[name], strict=True):
            errors = [f"{1000 * (value - truth):+.1f}" for value in (learned, common)]
            rows.append([name, distance, f"{truth:.5f}", f"{learned:.5f}", f"{common:.5f}", *errors])
    notes = (
        f"{BASIS}, grid level {GRID_LEVEL}, spin-restricted H2, energies in hartree, errors in millihartree. Exact: "
        "Hartree–Fock for H2+, full configuration interaction for H2, both in the same basis."
    )
    columns = ["system", "R / Å", "exact", "DM21", "B3LYP", "DM21 error", "B3LYP error"]
    path = Path(__file__).with_suffix(".md")
    write_table(path, "Dissociation of H2+ and H2", notes, columns, rows)
    with picture(path.with_suffix(".png"), (9.0, 4.0)) as figure:
        for axes, (name, energies) in zip(figure.subplots(1, 2), curves.items(), strict=True):
            for index, (label, colour, style) in enumerate(
                (("exact in the basis", GREY, "-"), ("DM21", BLUE, "o-"), ("B3LYP", ORANGE, "s--"))
            ):
                axes.plot(DISTANCES, energies[:, index], style, color=colour, ms=4, lw=1.4, label=label)
            axes.set_title(f"{name}, {BASIS}", loc="left")
            axes.set_xlabel("R / Å")
            axes.set_ylabel("energy / hartree")
            axes.legend()


if __name__ == "__main__":
    main()
