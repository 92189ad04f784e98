"""A chain of ten hydrogen atoms, compressed and stretched: DM21, B3LYP, PBE and the exact energy.

`python benchmarks/dm21_hydrogen_chain.py [STORE]` (a quarter of an hour); writes dm21_hydrogen_chain.md and .png.
STORE, a JSON file, keeps finished energies, so that another call resumes. In the minimal basis the exact energy is full
configuration interaction's; near the basis limit it is that of MRCI+Q extrapolated to it, by Motta et al., Phys. Rev. X
7, 031059 (2017).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from pyscf import dft, fci, gto, scf

import fusion
from fusion.plotting import BLUE, GREEN, GREY, ORANGE, picture
from runs import write_table

ATOMS = 10
BASIS = "sto-6g"
LARGE_BASIS = "cc-pvtz"
LIMIT = {1.0: -4.43242, 1.4: -5.49255, 1.8: -5.66558, 2.8: -5.37546}
"""MRCI+Q at the basis limit, hartree by distance in bohr; error bars 3, 2, 0.5 and 0.4 millihartree."""
GRID_LEVEL = 2
DISTANCES = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.4, 2.8, 3.2, 3.6)


def chain(distance: float, basis: str = BASIS) -> gto.Mole:
    """Equally spaced hydrogen atoms, `distance` in bohr."""
    atoms = [("H", (0.0, 0.0, index * distance)) for index in range(ATOMS)]
    return gto.M(atom=atoms, unit="Bohr", basis=basis, verbose=0)


def conventional(mol: gto.Mole, xc: str) -> float:
    """Restricted Kohn-Sham energy; nan if it does not converge."""
    mean_field = dft.RKS(mol, xc=xc)
    mean_field.grids.level = GRID_LEVEL
    mean_field.kernel()
    return float(mean_field.e_tot) if mean_field.converged else np.nan


def learned(mol: gto.Mole) -> float:
    """DM21, restricted; nan if it does not converge."""
    mean_field = fusion.kohn_sham(mol, "dm21", grid_level=GRID_LEVEL)
    mean_field.kernel()
    return float(mean_field.e_tot) if mean_field.converged else np.nan


def energies(distance: float, basis: str, exact: float | None) -> list[float]:
    """Energies in hartree: exact (None: full configuration interaction), DM21, B3LYP, PBE."""
    mol = chain(distance, basis)
    if exact is None:
        exact = float(fci.FCI(scf.RHF(mol).run()).kernel()[0])
    return [exact, learned(mol), conventional(mol, "b3lyp"), conventional(mol, "pbe")]


def curve(basis: str, points: Mapping[float, float | None], store: Path | None) -> list[list[float]]:
    """Energies along a curve; those in the store are not computed again."""
    done: dict[str, list[float]] = json.loads(store.read_text()) if store is not None and store.is_file() else {}
    for distance, exact in points.items():
        if (key := f"{basis} {distance}") not in done:
            done[key] = energies(distance, basis, exact)
            print(key, done[key], flush=True)
            if store is not None:
                store.write_text(json.dumps(done))
    return [done[f"{basis} {distance}"] for distance in points]


def lines(basis: str, distances: Iterable[float], totals: list[list[float]]) -> list[list[object]]:
    """The table's lines of a curve."""
    rows: list[list[object]] = []
    for distance, (exact, *others) in zip(distances, totals, strict=True):
        errors = [f"{1000 * (energy - exact) / ATOMS:+.1f}" for energy in others]
        rows.append([basis, distance, f"{exact:.5f}", *(f"{energy:.5f}" for energy in others), *errors])
    return rows


def main(store: Path | None) -> None:
    """Compute the curves, write the table and draw them."""
    minimal = curve(BASIS, dict.fromkeys(DISTANCES), store)
    large = curve(LARGE_BASIS, LIMIT, store)
    notes = (
        f"H{ATOMS}, spin-restricted, grid level {GRID_LEVEL}; hartree, errors in millihartree per atom. nan: not "
        f"converged. Exact: full configuration interaction in {BASIS}; for {LARGE_BASIS} MRCI+Q at the basis limit "
        "(Motta et al. 2017), with error bars of up to 0.3 per atom. Functionals carry the correlation of a complete "
        "basis, full configuration interaction only that of the minimal one: there compare how the errors change "
        "along the chain, not how large they are."
    )
    columns = ["basis", "R / bohr", "exact", "DM21", "B3LYP", "PBE", "DM21 error", "B3LYP error", "PBE error"]
    path = Path(__file__).with_suffix(".md")
    rows = [*lines(BASIS, DISTANCES, minimal), *lines(LARGE_BASIS, LIMIT, large)]
    write_table(path, "A hydrogen chain, compressed and stretched", notes, columns, rows)
    with picture(path.with_suffix(".png"), (8.8, 3.8)) as figure:
        left, right = figure.subplots(1, 2)
        labels = (("exact (FCI)", GREY), ("DM21", BLUE), ("B3LYP", ORANGE), ("PBE", GREEN))
        for values, (label, colour) in zip(np.array(minimal).T, labels, strict=True):
            left.plot(DISTANCES, values / ATOMS, "o-", color=colour, ms=4, lw=1.4, label=label)
        left.set_ylabel("energy per atom / hartree")
        left.set_title(f"H{ATOMS} chain, {BASIS}, spin-restricted", loc="left")
        exact, *others = np.array(large).T
        for values, (label, colour) in zip(others, labels[1:], strict=True):
            right.plot(list(LIMIT), 1000.0 * (values - exact) / ATOMS, "o-", color=colour, ms=4, lw=1.4, label=label)
        right.axhline(0.0, color=GREY, lw=1.0)
        right.set_ylabel("error per atom / millihartree")
        right.set_title(f"{LARGE_BASIS} against MRCI+Q at the basis limit", loc="left")
        for axes in (left, right):
            axes.set_xlabel("R / bohr")
            axes.legend()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
