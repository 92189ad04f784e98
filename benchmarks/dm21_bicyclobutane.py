"""Bicyclobutane opens to butadiene along two paths: barriers of DM21, B3LYP and coupled cluster.

`python benchmarks/dm21_bicyclobutane.py DIRECTORY` (about half an hour of two cores); writes dm21_bicyclobutane.md and
.png. DIRECTORY holds bicyclobutane.xyz, bicbut_con_TS.xyz, bicbut_dis_TS.xyz and butadiene_trans.xyz, the geometries of
Kinal and Piecuch, J. Phys. Chem. A 111, 734 (2007). The conrotatory path is the allowed one; at the disrotatory
transition state, a biradical, CCSD(T) fails.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from pyscf import cc, dft, gto, scf

import fusion
from fusion.chemistry.units import KCAL_MOL_PER_HARTREE
from fusion.plotting import BLUE, GREY, ORANGE, PURPLE, picture
from runs import write_table

BASIS = "6-31g*"
GRID_LEVEL = 3
SPECIES = {"conrotatory TS": "bicbut_con_TS", "disrotatory TS": "bicbut_dis_TS", "trans-butadiene": "butadiene_trans"}
LITERATURE = {"conrotatory TS": 40.4, "disrotatory TS": 58.6, "trans-butadiene": -27.9}
"""kcal/mol, diffusion Monte Carlo (OMR3-DMC), Berner and Lüchow, J. Phys. Chem. A 114, 13222 (2010)."""
METHODS = ("DM21", "B3LYP", "CCSD(T)")


def energies(path: Path) -> list[float]:
    """Energies (hartree) by all methods, nan if one does not converge."""
    mol = gto.M(atom=str(path), basis=BASIS, verbose=0)
    common = dft.RKS(mol, xc="b3lyp")
    common.grids.level = GRID_LEVEL
    common.kernel()
    learned = fusion.kohn_sham(mol, "dm21", grid_level=GRID_LEVEL)
    learned.kernel()
    coupled = cc.CCSD(scf.RHF(mol).run(), frozen=4).run()
    totals = [
        learned.e_tot if learned.converged else np.nan,
        common.e_tot if common.converged else np.nan,
        coupled.e_tot + coupled.ccsd_t() if coupled.converged else np.nan,
    ]
    return [float(value) for value in totals]


def main(directory: Path) -> None:
    """Compute the energies relative to bicyclobutane, write the table and draw it."""
    start = energies(directory / "bicyclobutane.xyz")
    rows, heights = [], []
    for name, file in SPECIES.items():
        totals = energies(directory / f"{file}.xyz")
        heights.append([KCAL_MOL_PER_HARTREE * (value - zero) for value, zero in zip(totals, start, strict=True)])
        rows.append([name, *(f"{height:.1f}" for height in heights[-1]), LITERATURE[name]])
    notes = (
        f"kcal/mol relative to bicyclobutane, {BASIS}, spin-restricted, grid level {GRID_LEVEL}, frozen core in "
        "CCSD(T), no zero-point energies; nan: not converged. DMC: literature, quoted from memory, zero-point energies "
        "may be part of it."
    )
    path = Path(__file__).with_suffix(".md")
    write_table(path, "Bicyclobutane to butadiene", notes, ["", *METHODS, "DMC (literature)"], rows)
    with picture(path.with_suffix(".png")) as figure:
        axes = figure.subplots()
        values = np.column_stack((np.array(heights), [LITERATURE[name] for name in SPECIES]))
        for index, (label, colour) in enumerate(zip((*METHODS, "DMC"), (BLUE, ORANGE, PURPLE, GREY), strict=True)):
            places = np.arange(len(SPECIES)) + 0.2 * (index - 1.5)
            bars = axes.bar(places, values[:, index], 0.19, color=colour, label=label)
            axes.bar_label(bars, fmt="%.0f", fontsize=7, padding=2)
        axes.set_xticks(np.arange(len(SPECIES)), list(SPECIES))
        axes.axhline(0.0, color=GREY, lw=0.8)
        axes.set_ylabel("energy − bicyclobutane / kcal mol⁻¹")
        axes.set_title("Bicyclobutane to butadiene", loc="left")
        axes.legend()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
