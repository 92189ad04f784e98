"""Bicyclobutane opens to butadiene along two paths: barriers of DM21, B3LYP and coupled cluster.

`python benchmarks/dm21_bicyclobutane.py STRUCTURES DIRECTORY` (about half an hour of two cores) keeps each energy in
DIRECTORY, computes those that are missing and writes dm21_bicyclobutane.md and .png. STRUCTURES holds
bicyclobutane.xyz, bicbut_con_TS.xyz, bicbut_dis_TS.xyz and butadiene_trans.xyz, the geometries of Kinal and Piecuch,
J. Phys. Chem. A 111, 734 (2007). The conrotatory path is the allowed one; the disrotatory transition state is a
biradical, which closed shells cannot describe: unrestricted calculations start there with broken symmetry.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pyscf import cc, dft, gto, scf

import fusion
from fusion.chemistry.units import KCAL_MOL_PER_HARTREE
from fusion.plotting import BLUE, GREY, ORANGE, PURPLE, picture
from fusion.scf import broken_symmetry
from runs import machine, write_table

BASIS = "6-31g*"
GRID_LEVEL = 3
START = "bicyclobutane"
SPECIES = {"conrotatory TS": "bicbut_con_TS", "disrotatory TS": "bicbut_dis_TS", "trans-butadiene": "butadiene_trans"}
LITERATURE = {"conrotatory TS": 40.4, "disrotatory TS": 58.6, "trans-butadiene": -27.9}
"""kcal/mol, diffusion Monte Carlo (OMR3-DMC), Berner and Lüchow, J. Phys. Chem. A 114, 13222 (2010)."""
Energy = dict[str, float | None]
"""`energy` (hartree, None: not converged) and, of unrestricted calculations, `spin_squared`."""


def read(mean_field: Any) -> Energy:
    """Result of a Kohn-Sham calculation."""
    found: Energy = {"energy": float(mean_field.e_tot) if mean_field.converged else None}
    return found | ({"spin_squared": float(mean_field.spin_square()[0])} if mean_field.istype("UHF") else {})


def dm21(mol: gto.Mole, reference: str) -> Energy:
    """DM21."""
    mean_field = fusion.kohn_sham(mol, "dm21", reference=reference, grid_level=GRID_LEVEL, conv_tol=1e-7)
    mean_field.kernel()
    return read(mean_field)


def b3lyp(mol: gto.Mole, reference: str) -> Energy:
    """B3LYP; unrestricted from the restricted orbitals with mixed frontier orbitals."""
    mean_field = dft.RKS(mol, xc="b3lyp")
    mean_field.grids.level = GRID_LEVEL
    mean_field.kernel()
    if reference == "unrestricted":
        pair = mean_field.to_uks()
        pair.mo_coeff = broken_symmetry.parted(pair.mo_coeff, pair.mo_occ)
        mean_field = pair
        mean_field.kernel(dm0=pair.make_rdm1())
    return read(mean_field)


def coupled_cluster(mol: gto.Mole) -> Energy:
    """CCSD(T), core orbitals frozen."""
    coupled = cc.CCSD(scf.RHF(mol).run(), frozen=4).run()
    return {"energy": float(coupled.e_tot + coupled.ccsd_t()) if coupled.converged else None}


METHODS: Mapping[str, Callable[[gto.Mole], Energy]] = {
    "DM21": lambda mol: dm21(mol, "restricted"),
    "DM21, unrestricted": lambda mol: dm21(mol, "unrestricted"),
    "B3LYP": lambda mol: b3lyp(mol, "restricted"),
    "B3LYP, unrestricted": lambda mol: b3lyp(mol, "unrestricted"),
    "CCSD(T)": coupled_cluster,
}
COLOURS = (BLUE, BLUE, ORANGE, ORANGE, PURPLE)


def energies(structures: Path, kept: Path) -> dict[str, dict[str, Energy]]:
    """Energies by species and method, the missing ones computed. Closed shells stay closed without restriction."""
    found: dict[str, dict[str, Energy]] = json.loads(kept.read_text()) if kept.exists() else {}
    for species in (START, *SPECIES.values()):
        mol = gto.M(atom=str(structures / f"{species}.xyz"), basis=BASIS, verbose=0)
        for name, method in METHODS.items():
            if name in found.setdefault(species, {}) or ("unrestricted" in name and not species.endswith("TS")):
                continue
            found[species][name] = method(mol)
            kept.write_text(json.dumps(found, indent=1))
            print(species, name, found[species][name], flush=True)
    return found


def heights(found: Mapping[str, Mapping[str, Energy]], species: str) -> list[float]:
    """Energies of the methods relative to bicyclobutane, kcal/mol; nan where there is none."""
    values = []
    for name in METHODS:
        zero = found[START].get(name, found[START][name.partition(",")[0]])["energy"]
        energy = found[species].get(name, {"energy": None})["energy"]
        values.append(np.nan if energy is None or zero is None else KCAL_MOL_PER_HARTREE * (energy - zero))
    return values


def cell(height: float, energy: Energy | None) -> str:
    """Height, with the spin of a broken-symmetry solution."""
    if energy is None:
        return ""
    spin = energy.get("spin_squared")
    return f"{height:.1f}" if spin is None else f"{height:.1f} (⟨S²⟩ {spin:.2f})"


def main(structures: Path, directory: Path) -> None:
    """Compute the energies relative to bicyclobutane, write the table and draw it."""
    directory.mkdir(parents=True, exist_ok=True)
    found = energies(structures, directory / "energies.json")
    table = {name: heights(found, species) for name, species in SPECIES.items()}
    rows = []
    for name, species in SPECIES.items():
        cells = [cell(height, found[species].get(key)) for height, key in zip(table[name], METHODS, strict=True)]
        rows.append([name, *cells, LITERATURE[name]])
    notes = (
        f"kcal/mol relative to bicyclobutane, {BASIS}, grid level {GRID_LEVEL}, frozen core in CCSD(T), no zero-point "
        "energies; nan: not converged. Unrestricted: started with broken symmetry; the minima are closed shells. DMC: "
        f"literature, quoted from memory, zero-point energies may be part of it. {machine()}."
    )
    path = Path(__file__).with_suffix(".md")
    write_table(path, "Bicyclobutane to butadiene", notes, ["", *METHODS, "DMC (literature)"], rows)
    with picture(path.with_suffix(".png"), (9.0, 4.2)) as figure:
        axes = figure.subplots()
        places = np.arange(len(SPECIES))
        values = np.column_stack((np.array(list(table.values())), list(LITERATURE.values())))
        for index, label in enumerate((*METHODS, "DMC")):
            hatch = "///" if "unrestricted" in label else None
            colour = (*COLOURS, GREY)[index]
            at = places + 0.15 * (index - 2.5)
            bars = axes.bar(at, values[:, index], 0.14, color=colour, hatch=hatch, edgecolor="white", label=label)
            labels = [f"{value:.0f}" if np.isfinite(value) else "" for value in values[:, index]]
            axes.bar_label(bars, labels, fontsize=7, padding=2)
        axes.set_xticks(places, list(SPECIES))
        axes.axhline(0.0, color=GREY, lw=0.8)
        axes.set_ylabel("energy − bicyclobutane / kcal mol⁻¹")
        axes.set_title("Bicyclobutane to butadiene", loc="left")
        axes.legend(fontsize=8)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
