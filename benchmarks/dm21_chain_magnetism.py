"""Magnetism of a chain of ten hydrogen atoms: restricted and broken-symmetry solutions against the exact energy.

`python benchmarks/dm21_chain_magnetism.py [STORE]` (half an hour); writes dm21_chain_magnetism.md and .png. STORE, a
JSON file, keeps finished energies, so that another call resumes. The exact ground state is a singlet without moments;
an unrestricted determinant shows its antiferromagnetic correlation as moments of alternating signs. The unrestricted
calculations start at 1.8 bohr from such moments (HF's) and follow the solution to shorter and longer distances.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pyscf import dft, fci, gto, scf

import fusion
from dm21_hydrogen_chain import ATOMS, BASIS, DISTANCES, GRID_LEVEL, chain
from fusion.plotting import BLUE, GREEN, GREY, ORANGE, picture
from fusion.scf.broken_symmetry import CLOSED
from fusion.scf.initial_guess import LastDensity
from fusion.scf.populations import populations
from runs import write_table

METHODS = {"HF": GREEN, "B3LYP": ORANGE, "DM21": BLUE}
MIDDLE = 1.8
"""Distance (bohr) at which the unrestricted solutions start."""
LOWER = 1e-3
"""Hartree by which an unrestricted solution must lie below the restricted one to be counted."""
FARTHEST = {"DM21": 2.8}
"""Largest distance (bohr) of unrestricted calculations: beyond it those of DM21 were stopped after minutes."""
MILLI = 1000.0
Point = dict[str, Any]
"""`restricted` and `unrestricted` energies (hartree), and `spin_squared` and `moments` (A,) of the latter; None: not
converged, or not tried."""


def mean_field(method: str, mol: gto.Mole, unrestricted: bool) -> Any:
    """Calculation, not run. DM21 begins with the level shift that it needs for separate spins."""
    if method == "HF":
        return (scf.UHF if unrestricted else scf.RHF)(mol)
    if method == "DM21":
        reference = "unrestricted" if unrestricted else "restricted"
        learned = fusion.kohn_sham(mol, "dm21", reference=reference, grid_level=GRID_LEVEL, conv_tol=1e-7)
        learned.damp, learned.level_shift = (0.5, 0.3) if unrestricted else (0.0, 0.0)
        return learned
    conventional = (dft.UKS if unrestricted else dft.RKS)(mol, xc=method)
    conventional.grids.level = GRID_LEVEL
    return conventional


def energy(calculation: Any) -> float | None:
    """Energy in hartree, None if the calculation has not converged."""
    return float(calculation.e_tot) if calculation.converged else None


def antiferromagnetic(mol: gto.Mole) -> np.ndarray:
    """Density matrices (2, n, n) of Hartree-Fock with alternating spins, from one function per atom."""
    up = np.diag([1.0, 0.0] * (ATOMS // 2))
    return np.asarray(scf.UHF(mol).run(np.stack([up, np.eye(ATOMS) - up])).make_rdm1())


def follow(method: str, done: dict[str, Point], save: Callable[[], None]) -> None:
    """Add missing points; each unrestricted calculation starts from the magnetic solution at the nearest distance."""
    starts: dict[float, LastDensity] = {}
    missing = [distance for distance in DISTANCES if str(distance) not in done]
    for distance in sorted(missing and {MIDDLE, *missing}, key=lambda distance: abs(distance - MIDDLE)):
        mol, point = chain(distance), dict.fromkeys(("restricted", "unrestricted", "spin_squared", "moments"))
        if distance <= FARTHEST.get(method, np.inf):
            nearest = min(starts, key=lambda other: abs(other - distance), default=None)
            pair = mean_field(method, mol, True)
            pair.kernel(dm0=antiferromagnetic(mol) if nearest is None else starts[nearest].on(mol))
            if pair.converged:
                spins = populations(pair)["spin_populations"].tolist()
                point |= {"unrestricted": energy(pair), "spin_squared": float(pair.spin_square()[0]), "moments": spins}
            if pair.converged and point["spin_squared"] > CLOSED:
                starts[distance] = LastDensity.of(pair, ())
        if distance in missing:
            done[str(distance)] = point | {"restricted": energy(mean_field(method, mol, False).run())}
            print(method, distance, done[str(distance)], flush=True)
            save()


def curves(store: Path | None) -> dict[str, dict[str, Point]]:
    """Points by method and distance; those in the store are not computed again."""
    done: dict[str, dict[str, Point]] = json.loads(store.read_text()) if store is not None and store.is_file() else {}

    def save() -> None:
        if store is not None:
            store.write_text(json.dumps(done, indent=1))

    for method in METHODS:
        follow(method, done.setdefault(method, {}), save)
    return done


def lowest(point: Point) -> float:
    """Lower energy of both solutions; nan without any."""
    return min((point[name] for name in ("restricted", "unrestricted") if point[name] is not None), default=np.nan)


def is_magnetic(point: Point) -> bool:
    """True if the unrestricted solution is clearly below the restricted one, or there is no restricted one."""
    if point["unrestricted"] is None:
        return False
    return bool(point["restricted"] is None or point["unrestricted"] < point["restricted"] - LOWER)


def verdict(done: Mapping[str, Mapping[str, Point]], exact: np.ndarray) -> str:
    """Sentences: onset of magnetism, and how the error changes along the chain."""
    known = [
        all(done[method][str(distance)]["unrestricted"] is not None for method in METHODS) for distance in DISTANCES
    ]
    last = max(np.array(DISTANCES)[known])
    sentences = []
    for method in METHODS:
        onset = [distance for distance in DISTANCES if is_magnetic(done[method][str(distance)])]
        text = f"from {onset[0]:g} bohr on" if onset else "nowhere"
        points = [done[method][str(distance)] for distance in DISTANCES]
        closed = np.array([point["restricted"] for point in points], dtype=float)
        spreads = [
            np.ptp(MILLI * (curve - exact)[known]) / ATOMS for curve in (closed, np.array(list(map(lowest, points))))
        ]
        sentences.append(
            f"{method}: broken symmetry lowers the energy by over {MILLI * LOWER:g} mHa {text}; up to {last:g} bohr "
            f"the error varies by {spreads[0]:.1f} mHa per atom along the restricted curve, by {spreads[1]:.1f} along "
            "the lowest."
        )
    return " ".join(sentences)


def cells(point: Point, exact: float) -> list[str]:
    """Cells of the table for a method: errors of both solutions, <S^2>, mean absolute moment."""
    errors = [
        "" if point[name] is None else f"{MILLI * (point[name] - exact) / ATOMS:+.1f}"
        for name in ("restricted", "unrestricted")
    ]
    if point["unrestricted"] is None:
        return [*errors, "", ""]
    return [*errors, f"{point['spin_squared']:.2f}", f"{np.abs(point['moments']).mean():.2f}"]


def draw(done: Mapping[str, Mapping[str, Point]], exact: np.ndarray, path: Path) -> None:
    """Errors of both solutions and moments over the distance."""
    with picture(path, (12.0, 3.9)) as figure:
        left, middle, right = figure.subplots(1, 3)
        for method, colour in METHODS.items():
            points = [done[method][str(distance)] for distance in DISTANCES]
            for name, style in (("restricted", ":"), ("unrestricted", "o-")):
                totals = np.array([point[name] for point in points], dtype=float)
                errors = MILLI * (totals - exact) / ATOMS
                left.plot(DISTANCES, errors, style, color=colour, ms=4, lw=1.4, label=f"{method}, {name}")
            moments = [np.nan if point["moments"] is None else np.abs(point["moments"]).mean() for point in points]
            middle.plot(DISTANCES, moments, "o-", color=colour, ms=4, lw=1.4, label=method)
        left.axhline(0.0, color=GREY, lw=1.0)
        left.set_ylabel("error per atom / millihartree")
        left.set_title(f"H{ATOMS} against the exact energy, {BASIS}", loc="left")
        middle.set_ylabel("mean absolute moment of an atom")
        middle.set_title("Local moments", loc="left")
        for axes in (left, middle):
            axes.set_xlabel("R / bohr")
        left.legend(fontsize=7)
        middle.legend()
        for index, (method, colour) in enumerate(METHODS.items()):
            moments = np.array(done[method]["2.8"]["moments"])
            moments *= np.sign(moments[0])
            places = np.arange(1, ATOMS + 1) + 0.27 * (index - 1)
            right.bar(places, moments, 0.25, color=colour, label=method)
        right.axhline(0.0, color=GREY, lw=0.8)
        right.set_xlabel("atom")
        right.set_ylabel("spins up − down")
        right.set_title("Moments at 2.8 bohr", loc="left")
        right.set_ylim(-1.2, 1.0)
        right.legend(loc="lower center", ncol=len(METHODS))


def main(store: Path | None) -> None:
    """Compute the points, write the table and draw them."""
    done = curves(store)
    exact = np.array([fci.FCI(scf.RHF(chain(distance)).run()).kernel()[0] for distance in DISTANCES])
    notes = (
        f"H{ATOMS}, {BASIS}, grid level {GRID_LEVEL}; errors against full configuration interaction in millihartree "
        "per atom (R: restricted, U: unrestricted with broken symmetry), ⟨S²⟩ (exact 0) and the mean absolute moment "
        f"of an atom (meta-Löwdin; exact 0). {verdict(done, exact)} The functionals carry the correlation of a "
        "complete basis: compare how the errors change along the chain, not how large they are. DM21's unrestricted "
        "calculations at 3.2 bohr (from the solution at 2.8) and at 3.6 bohr (from B3LYP's) were stopped after some "
        "minutes, not converged."
    )
    columns = ["R / bohr", "exact / Ha"]
    columns += [f"{method} {name}" for method in METHODS for name in ("R", "U", "⟨S²⟩", "moment")]
    rows = []
    for distance, total in zip(DISTANCES, exact, strict=True):
        rest = [cell for method in METHODS for cell in cells(done[method][str(distance)], float(total))]
        rows.append([distance, f"{total:.5f}", *rest])
    path = Path(__file__).with_suffix(".md")
    write_table(path, "Magnetism of a hydrogen chain", notes, columns, rows)
    draw(done, exact, path.with_suffix(".png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
