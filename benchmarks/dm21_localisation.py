"""Place of the hole of a cation: DM21, B3LYP and Hartree-Fock for He2+ and for two stacked molecules.

`python benchmarks/dm21_localisation.py DIRECTORY [CASE ...]` computes the named cases and keeps them in DIRECTORY; it
writes dm21_localisation.md and .png from the cases that are there. Cases: `helium` (5 CPU minutes); not tried to the
end: `ethene`, `benzene` and `bases` (adenine on thymine). A case without results is named as not calculated.

Far apart, the cation of a dimer has the energy of a fragment and a cation, with the hole on either fragment or shared
by both. Functionals with an error of delocalisation put a shared hole much too low, Hartree-Fock much too high. The
first start puts nine tenths of the hole on one fragment; a solution with an unequal hole is followed to longer
distances. Not the whole hole: the potential of DM21 is far from smooth for a spin that has no density, and no SCF finds
its way from there quickly.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pyscf import cc, dft, fci, gto, scf
from scipy.linalg import block_diag

import fusion
from dimer_cations import CASES, STARTS, fragments, molecule, shifted
from fusion.chemistry.units import KCAL_MOL_PER_HARTREE
from fusion.plotting import BLUE, GREEN, GREY, ORANGE, picture
from fusion.scf.initial_guess import LastDensity
from fusion.scf.populations import populations
from runs import machine, write_table

GRID_LEVEL = 3
METHODS = {"HF": (GREEN, "^:"), "B3LYP": (ORANGE, "s--"), "DM21": (BLUE, "o-")}
"""Colour and style of each method."""
EXACT = "exact"
UNEQUAL = 0.02
"""Difference of a charge from a half above which a hole counts as unequal, and is followed to longer distances."""
SHARES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
APART = 5.0
"""Distance (Angstrom) of the helium atoms for energies over the share of the hole."""


def calculation(method: str, mol: gto.Mole) -> Any:
    """Mean-field object, not converged."""
    if method == "HF":
        return (scf.UHF if mol.spin else scf.RHF)(mol)
    if method == "DM21":
        return fusion.kohn_sham(mol, "dm21", grid_level=GRID_LEVEL, conv_tol=1e-7)
    mean_field = (dft.UKS if mol.spin else dft.RKS)(mol, xc=method)
    mean_field.grids.level, mean_field.conv_tol = GRID_LEVEL, 1e-8
    return mean_field


def converged(mean_field: Any, density: np.ndarray) -> Any:
    """Converge from a density, of conventional methods by second order where DIIS fails; DM21 does so by itself."""
    mean_field.kernel(dm0=density)
    if not mean_field.converged and not hasattr(mean_field, "attempts"):
        mean_field = mean_field.newton()
        mean_field.kernel()
    return mean_field


def orthogonalised(orbitals: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    """Orthonormal orbitals (n, m) nearest to the given ones (Löwdin)."""
    values, vectors = np.linalg.eigh(orbitals.T @ overlap @ orbitals)
    return np.asarray(orbitals @ (vectors / np.sqrt(values)) @ vectors.T)


def start_density(neutral: Sequence[Any], mol: gto.Mole, share: float) -> np.ndarray:
    """Density matrices of the dimer from neutral fragments; the hole is in both highest orbitals, `share` in the first.

    The hole has a node between the fragments.
    """
    overlap = mol.intor("int1e_ovlp")
    filled = block_diag(*(fragment.mo_coeff[:, fragment.mo_occ > 0] for fragment in neutral))
    orthogonal = orthogonalised(filled, overlap)
    last = np.count_nonzero(neutral[0].mo_occ) - 1
    sign = -np.sign(filled[:, last] @ overlap @ filled[:, -1])
    hole = np.sqrt(share) * orthogonal[:, last] + sign * np.sqrt(1.0 - share) * orthogonal[:, -1]
    up = orthogonal @ orthogonal.T
    return np.stack([up, up - np.outer(hole, hole)])


def rows_of(case: str) -> Iterator[dict[str, Any]]:
    """Energies (kcal/mol) above the lower pair of a fragment and a cation, and the charge of the first fragment."""
    basis, parts = CASES[case].basis, fragments(case)
    dimers = {z: molecule(parts[0] + shifted(parts[1], z), 1, basis) for z in CASES[case].distances}
    for method in METHODS:
        alone = [[calculation(method, molecule(part, charge, basis)).run() for charge in (0, 1)] for part in parts]
        zero = min(alone[0][hole].e_tot + alone[1][1 - hole].e_tot for hole in (0, 1))
        for start in CASES[case].starts:
            last: LastDensity | None = None
            for distance, mol in dimers.items():
                guess = start_density([pair[0] for pair in alone], mol, STARTS[start])
                mean_field = converged(calculation(method, mol), guess if last is None else last.on(mol))
                charge = float(populations(mean_field)["charges"][: len(parts[0])].sum())
                if mean_field.converged and abs(charge - 0.5) > UNEQUAL:
                    last = LastDensity.of(mean_field, ())
                energy = KCAL_MOL_PER_HARTREE * (mean_field.e_tot - zero) if mean_field.converged else None
                yield {"method": method, "distance": distance, "start": start, "energy": energy, "charge": charge}
    if case in ("helium", "ethene"):
        pairs = [[exact(molecule(part, charge, basis)) for charge in (0, 1)] for part in parts]
        zero = min(pairs[0][hole] + pairs[1][1 - hole] for hole in (0, 1))
        for distance, mol in dimers.items():
            energy = KCAL_MOL_PER_HARTREE * (exact(mol) - zero)
            yield {"method": EXACT, "distance": distance, "start": "", "energy": energy}


def exact(mol: gto.Mole) -> float:
    """Full configuration interaction of helium; CCSD(T) with frozen cores of carbon, on a shared hole."""
    mean_field = (scf.UHF if mol.spin else scf.RHF)(mol).run(conv_tol=1e-10)
    if "C" not in mol.elements:
        return float(mean_field.e_tot if mol.nelectron == 1 else fci.FCI(mean_field).kernel()[0])
    coupled = cc.CCSD(mean_field, frozen=mol.elements.count("C")).run()
    return float(coupled.e_tot + coupled.ccsd_t())


def shares() -> list[dict[str, Any]]:
    """Energies (kcal/mol) of He2+ with fixed orbitals over the share of the hole on the second atom.

    The orbital of each atom is a mixture of those of He and He+ by its charge; both are orthogonalised.
    """
    mol = molecule([("He", (0.0, 0.0, 0.0)), ("He", (0.0, 0.0, APART))], 1, CASES["helium"].basis)
    overlap = mol.intor("int1e_ovlp")
    pair = [calculation("HF", molecule(fragments("helium")[0], charge, mol.basis)).run() for charge in (0, 1)]
    neutral, ion = (np.abs(np.reshape(atom.mo_coeff, (-1, 5, 5))[0, :, 0]) for atom in pair)
    rows = []
    for method in METHODS:
        mean_field = calculation(method, mol)
        for share in SHARES:
            orbitals = block_diag(*((q * ion + (1 - q) * neutral)[:, None] for q in (1 - share, share)))
            orbitals = orthogonalised(orbitals, overlap)
            down = orbitals @ np.sqrt([share, 1 - share])  # the hole is where the electron is not
            density = np.stack([orbitals @ orbitals.T, np.outer(down, down)])
            rows.append(
                {"method": method, "share": share, "energy": KCAL_MOL_PER_HARTREE * energy_of(mean_field, density)}
            )
    return rows


def energy_of(mean_field: Any, density: np.ndarray) -> float:
    """Energy of a density without any cycle, hartree."""
    return float(mean_field.energy_tot(density, vhf=mean_field.get_veff(dm=density)))


def cell(row: dict[str, Any] | None) -> str:
    """Energy, and the charge of the first fragment."""
    if row is None:
        return ""
    energy = "not converged" if row["energy"] is None else f"{row['energy']:+.1f}"
    return f"{energy} ({row['charge']:.2f})" if "charge" in row else energy


def table(kept: Mapping[str, list[dict[str, Any]]]) -> list[list[str]]:
    """Rows of the table: a case, a distance and a start."""
    rows = []
    for name, lines in kept.items():
        case = CASES[name]
        by = {(row["method"], row["distance"], row["start"]): row for row in lines}
        for distance in case.distances:
            for start in case.starts:
                cells = [cell(by.get((method, distance, start))) for method in METHODS]
                shown = cell(by.get((EXACT, distance, ""))) if start == "both" else ""
                rows.append([case.name, f"{distance}", start, *cells, shown])
    return rows


def draw(kept: Mapping[str, list[dict[str, Any]]], scan: list[dict[str, Any]], path: Path) -> None:
    """Energies over the distance, lowest of each method, and over the share of the hole."""
    cases = [name for name in kept if len(CASES[name].distances) > 2]
    with picture(path, (4.4 * (len(cases) + 1), 4.0)) as figure:
        *left, right = figure.subplots(1, len(cases) + 1, squeeze=False)[0]
        for axes, name in zip(left, cases, strict=True):
            for method, (colour, style) in {**METHODS, EXACT: (GREY, "-")}.items():
                axes.plot(*_lowest(kept[name], method), style, color=colour, ms=4, lw=1.4, label=method)
            both = [row for row in kept[name] if row["start"] == "both"]
            axes.plot(*_lowest(both, "DM21"), ":", color=BLUE, lw=1.4, label="DM21, shared hole")
            axes.set_title(f"{CASES[name].name}, {CASES[name].basis}: lowest solution", loc="left")
            axes.set_xlabel("distance / Å")
            axes.set_ylabel("energy − He − He⁺ / kcal mol⁻¹")
        for method, (colour, style) in METHODS.items():
            rows = [row for row in scan if row["method"] == method]
            energies = [row["energy"] - rows[0]["energy"] for row in rows]
            right.plot([row["share"] for row in rows], energies, style, color=colour, ms=4, lw=1.4, label=method)
        right.set_title(f"He2+ at {APART:g} Å, fixed orbitals: exact is 0", loc="left")
        right.set_xlabel("share of the hole on the second atom")
        right.set_ylabel("energy − energy of a share of 0 / kcal mol⁻¹")
        for axes in (*left, right):
            axes.axhline(0.0, color=GREY, lw=0.6)
            axes.legend()


def _lowest(rows: list[dict[str, Any]], method: str) -> tuple[list[float], list[float]]:
    """Distances, and the lowest energy of a method at each."""
    mine = [row for row in rows if row["method"] == method and row["energy"] is not None]
    distances = sorted({row["distance"] for row in mine})
    return distances, [min(row["energy"] for row in mine if row["distance"] == distance) for distance in distances]


def verdict(kept: Mapping[str, list[dict[str, Any]]], scan: list[dict[str, Any]]) -> str:
    """Sentences about the errors of the methods, from their energies."""
    curves = {method: [row["energy"] for row in scan if row["method"] == method] for method in METHODS}
    shared = ", ".join(f"{method} {energies[-1] - energies[0]:+.0f}" for method, energies in curves.items())
    dip = int(np.argmin(curves["DM21"]))
    depth = curves["DM21"][dip] - curves["DM21"][0]
    text = (
        f"With fixed orbitals and {APART:g} Å between the atoms of He2+, half of the hole on each costs {shared} "
        f"kcal/mol (exact: 0). DM21 removes nearly all of this error, but has a false minimum of {depth:+.0f} kcal/mol "
        f"at a share of {SHARES[dip]:g} on the other atom (right-hand picture): there its energy is far from smooth."
    )
    for name, rows in kept.items():
        pairs = [_by_start([row for row in rows if row["method"] == "DM21"], z) for z in CASES[name].distances]
        if any(row["method"] == EXACT for row in rows):
            exact_energies = np.array(_lowest(rows, EXACT)[1])
            errors = {method: np.array(_lowest(rows, method)[1]) - exact_energies for method in METHODS}
            largest = ", ".join(f"{method} {max(error, key=abs):+.0f}" for method, error in errors.items())
            text += f" {CASES[name].name}: the lowest solutions have errors of up to {largest} kcal/mol."
        broken = [
            f"{z:g} Å ({pair['first']['charge']:.2f}, {pair['first']['energy'] - pair['both']['energy']:+.0f})"
            for z, pair in zip(CASES[name].distances, pairs, strict=True)
            if _is_lower(pair["first"], pair["both"])
        ]
        if broken:
            text += (
                f" The lowest solution of DM21 has an unequal hole at {', '.join(broken)}; in "
                "brackets the charge of the first fragment, and kcal/mol relative to the shared hole."
            )
    return text


def _by_start(rows: list[dict[str, Any]], distance: float) -> dict[str, dict[str, Any]]:
    return {row["start"]: row for row in rows if row["distance"] == distance}


def _is_lower(row: dict[str, Any], other: dict[str, Any]) -> bool:
    """True if both have converged and the first is lower by more than 0.1 kcal/mol."""
    return None not in (row["energy"], other["energy"]) and row["energy"] < other["energy"] - 0.1


def kept_or(file: Path, compute: Any) -> list[dict[str, Any]]:
    """Rows in a file; computed and written if it is missing."""
    if not file.exists():
        rows = []
        for row in compute():
            print(file.stem, row, flush=True)
            rows.append(row)
        file.write_text(json.dumps(rows, indent=1))
    loaded: list[dict[str, Any]] = json.loads(file.read_text())
    return loaded


def main(directory: Path, names: Sequence[str]) -> None:
    """Compute what is missing, write the table and draw it."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        kept_or(directory / f"{name}.json", lambda name=name: rows_of(name))
    scan = kept_or(directory / "shares.json", shares)
    kept = {name: json.loads(file.read_text()) for name in CASES if (file := directory / f"{name}.json").exists()}
    missing = ", ".join(case.name for name, case in CASES.items() if name not in kept)
    notes = (
        f"Energies in kcal/mol above the lower pair of a neutral fragment and a cation, grid level {GRID_LEVEL}, "
        "unrestricted, no counterpoise correction; in brackets the charge (meta-Löwdin) of the first fragment. Start: "
        "nine tenths of the hole on the first fragment (then the solution at the distance before, if its hole is "
        "unequal), or half on each. Basis: "
        + ", ".join(f"{CASES[name].name} {CASES[name].basis}" for name in kept)
        + f". Exact: full configuration interaction of He2+, CCSD(T) of larger ones. {verdict(kept, scan)}"
        + (f" Not calculated here, but cases of the script: {missing}." if missing else "")
        + f" {machine()}."
    )
    path = Path(__file__).with_suffix(".md")
    columns = ["system", "distance / Å", "start", *METHODS, EXACT]
    write_table(path, "Where the hole of a cation sits", notes, columns, table(kept))
    draw(kept, scan, path.with_suffix(".png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
