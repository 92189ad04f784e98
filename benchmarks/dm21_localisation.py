"""Place of the hole of a cation: DM21 and B3LYP for He2+, a stack of two benzenes, and adenine on thymine.

`python benchmarks/dm21_localisation.py DIRECTORY [CASE ...]` computes the named cases (`helium`, `benzene`, `bases`)
and keeps them in DIRECTORY; it writes dm21_localisation.md and .png from the cases that are there.

Apart, a dimer's cation must have the energy of a fragment and a cation, with the hole on either fragment or shared by
both. Functionals with an error of delocalisation put a shared hole much too low.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pyscf import dft, fci, gto, scf
from scipy.linalg import block_diag

import fusion
from fusion.chemistry.units import KCAL_MOL_PER_HARTREE
from fusion.plotting import BLUE, GREY, ORANGE, picture
from fusion.scf.populations import populations
from runs import machine, write_table

GRID_LEVEL = 3
METHODS = ("DM21", "B3LYP")
STARTS = ("first", "second", "both")
"""Fragments that carry the hole of the starting density."""
CASES: Mapping[str, tuple[str, str, tuple[float, ...]]] = {
    "helium": ("He2+", "cc-pvdz", (1.1, 2.0, 3.0, 5.0)),
    "benzene": ("(C6H6)2+", "def2-svp", (3.5, 5.0, 8.0)),
    "bases": ("adenine and thymine", "def2-svp", (3.4,)),
}
"""Name, basis and distances (Angstrom) between the nuclei of He or between the planes of the others."""
Atoms = list[tuple[str, tuple[float, float, float]]]

BASES = {  # Angstrom, relaxed with ANI-2x
    "adenine": """
C -2.330 -0.575 0.012
N -1.991 0.757 -0.025
C -0.621 0.812 -0.007
C -0.221 -0.517 0.039
N -1.305 -1.379 0.053
C 1.166 -0.740 0.067
N 1.995 0.310 0.052
C 1.454 1.537 0.007
N 0.174 1.889 -0.026
N 1.683 -1.991 0.085
H -3.367 -0.887 0.008
H -2.613 1.550 -0.059
H 2.172 2.356 -0.006
H 1.065 -2.773 0.240
H 2.671 -2.096 0.247
""",
    "thymine": """
C -2.638 0.791 0.000
C -1.167 0.536 0.000
C -0.232 1.498 0.000
N 1.118 1.228 0.000
C 1.639 -0.054 0.000
O 2.830 -0.282 0.000
N 0.666 -1.031 0.000
C -0.723 -0.865 0.000
O -1.462 -1.831 0.000
H -2.864 1.862 0.000
H -3.109 0.333 0.876
H -3.109 0.333 -0.876
H -0.495 2.553 0.000
H 1.800 1.972 0.000
H 1.001 -1.986 0.000
""",
}


def fragments(case: str) -> tuple[Atoms, Atoms]:
    """Both fragments, in the plane z = 0 and centred."""
    if case == "helium":
        return [("He", (0.0, 0.0, 0.0))], [("He", (0.0, 0.0, 0.0))]
    if case == "bases":
        return base("adenine"), base("thymine")
    turns = np.exp(1j * np.pi / 3 * np.arange(6))
    rings = (("C", 1.397 * turns), ("H", (1.397 + 1.084) * turns))  # lengths of the bonds from experiment
    benzene = [(symbol, (float(turn.real), float(turn.imag), 0.0)) for symbol, ring in rings for turn in ring]
    return benzene, benzene


def base(name: str) -> Atoms:
    """Nucleobase with the mean of its heavy atoms at the origin."""
    rows = [line.split() for line in BASES[name].strip().split("\n")]
    positions = np.array([[float(word) for word in row[1:]] for row in rows])
    positions -= positions[[row[0] != "H" for row in rows]].mean(axis=0)
    return [(row[0], (x, y, z)) for row, (x, y, z) in zip(rows, positions.tolist(), strict=True)]


def molecule(atoms: Atoms, charge: int, basis: str) -> gto.Mole:
    """Neutral closed shell, or its cation, a doublet."""
    return gto.M(atom=atoms, charge=charge, spin=charge, basis=basis, verbose=0)


def calculation(method: str, mol: gto.Mole, density: np.ndarray | None = None) -> Any:
    """Kohn-Sham calculation, run."""
    if method == "DM21":
        mean_field = fusion.kohn_sham(mol, "dm21", grid_level=GRID_LEVEL, conv_tol=1e-7)
    else:
        mean_field = (dft.UKS if mol.spin else dft.RKS)(mol, xc="b3lyp")
        mean_field.grids.level, mean_field.conv_tol = GRID_LEVEL, 1e-8
    mean_field.kernel(dm0=density)
    return mean_field


def spins(mean_field: Any) -> np.ndarray:
    """Density matrices (2, n, n)."""
    density = np.asarray(mean_field.make_rdm1())
    return np.stack([0.5 * density] * 2) if density.ndim == 2 else density


def starts(alone: Sequence[Sequence[Any]]) -> dict[str, np.ndarray]:
    """Densities of the dimer from those of the fragments, which are (neutral, cation) each."""
    first, second = (
        np.stack([block_diag(a, b) for a, b in zip(spins(alone[0][hole]), spins(alone[1][1 - hole]), strict=True)])
        for hole in (1, 0)
    )
    return {"first": first, "second": second, "both": 0.5 * (first + second)}


def rows_of(case: str) -> Iterator[dict[str, Any]]:
    """Energies (kcal/mol) above the best pair of a fragment and a cation, and the share of the hole on the first."""
    _, basis, distances = CASES[case]
    parts = fragments(case)
    for method in METHODS:
        alone = [[calculation(method, molecule(part, charge, basis)) for charge in (0, 1)] for part in parts]
        zero = min(alone[0][hole].e_tot + alone[1][1 - hole].e_tot for hole in (0, 1))
        for distance in distances:
            mol = molecule(parts[0] + shifted(parts[1], distance), 1, basis)
            for start, density in starts(alone).items():
                found = calculation(method, mol, density)
                energy = KCAL_MOL_PER_HARTREE * (found.e_tot - zero) if found.converged else None
                hole = float(populations(found)["spin_populations"][: len(parts[0])].sum())
                yield {"method": method, "distance": distance, "start": start, "energy": energy, "hole": hole}
    if case == "helium":
        zero = exact(molecule(parts[0], 0, basis)) + exact(molecule(parts[0], 1, basis))
        for distance in distances:
            energy = exact(molecule(parts[0] + shifted(parts[1], distance), 1, basis)) - zero
            yield {"method": "exact", "distance": distance, "start": "", "energy": KCAL_MOL_PER_HARTREE * energy}


def shifted(atoms: Atoms, distance: float) -> Atoms:
    """Atoms moved along z."""
    return [(symbol, (x, y, z + distance)) for symbol, (x, y, z) in atoms]


def exact(mol: gto.Mole) -> float:
    """Full configuration interaction; Hartree-Fock of one electron."""
    mean_field = (scf.UHF if mol.spin else scf.RHF)(mol).run()
    return float(mean_field.e_tot if mol.nelectron == 1 else fci.FCI(mean_field).kernel()[0])


def cell(row: dict[str, Any] | None) -> str:
    """Energy and share of the hole in the first fragment."""
    if row is None:
        return ""
    energy = "not converged" if row["energy"] is None else f"{row['energy']:+.1f}"
    return f"{energy} ({row['hole']:.2f})" if "hole" in row else energy


def table(kept: Mapping[str, list[dict[str, Any]]]) -> list[list[str]]:
    """Rows of the table: a case and a distance."""
    rows = []
    for case, found in kept.items():
        by = {(row["method"], row["distance"], row["start"]): row for row in found}
        for distance in CASES[case][2]:
            cells = [cell(by.get((method, distance, start))) for method in METHODS for start in STARTS]
            rows.append([CASES[case][0], f"{distance}", cell(by.get(("exact", distance, ""))), *cells])
    return rows


def draw(kept: Mapping[str, list[dict[str, Any]]], path: Path) -> None:
    """Lowest energy of each method over the distance."""
    cases = [case for case in kept if len(CASES[case][2]) > 1]
    with picture(path, (4.5 * len(cases), 4.0)) as figure:
        for axes, case in zip(figure.subplots(1, len(cases), squeeze=False)[0], cases, strict=True):
            for method, colour, style in (("exact", GREY, "-"), ("DM21", BLUE, "o-"), ("B3LYP", ORANGE, "s--")):
                rows = [row for row in kept[case] if row["method"] == method and row["energy"] is not None]
                distances = sorted({row["distance"] for row in rows})
                lowest = [min(row["energy"] for row in rows if row["distance"] == distance) for distance in distances]
                if rows:
                    axes.plot(distances, lowest, style, color=colour, ms=4, lw=1.4, label=method)
            axes.axhline(0.0, color=GREY, lw=0.6)
            axes.set_title(f"{CASES[case][0]}, {CASES[case][1]}", loc="left")
            axes.set_xlabel("distance / Å")
            axes.set_ylabel("energy − fragment − cation / kcal mol⁻¹")
            axes.legend()


def main(directory: Path, cases: Sequence[str]) -> None:
    """Compute what is missing, write the table and draw it."""
    directory.mkdir(parents=True, exist_ok=True)
    for case in cases:
        file = directory / f"{case}.json"
        if not file.exists():
            rows = []
            for row in rows_of(case):
                print(case, row, flush=True)
                rows.append(row)
            file.write_text(json.dumps(rows))
    files = {case: directory / f"{case}.json" for case in CASES}
    kept = {case: json.loads(file.read_text()) for case, file in files.items() if file.exists()}
    notes = (
        f"Energies in kcal/mol above the lower pair of a neutral fragment and a cation, grid level {GRID_LEVEL}, "
        "unrestricted, no counterpoise correction; in brackets the share of the unpaired electron on the first "
        "fragment (adenine). Columns: the fragment that the starting density puts the hole on. Basis: "
        + ", ".join(f"{name} {basis}" for name, basis, _ in CASES.values())
        + f". Exact: full configuration interaction. {machine()}."
    )
    columns = ["system", "distance / Å", "exact", *(f"{method}, {start}" for method in METHODS for start in STARTS)]
    path = Path(__file__).with_suffix(".md")
    write_table(path, "Where the hole of a cation sits", notes, columns, table(kept))
    draw(kept, path.with_suffix(".png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
