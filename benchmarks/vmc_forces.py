"""Forces of H2 and LiH by variational Monte Carlo beside exact slopes: `python benchmarks/vmc_forces.py DIRECTORY`.

Runs FermiNet with its default optimisation and a longer evaluation at three distances of each, in one thread, and
writes vmc_forces.md. The force is the one along the bond on the last atom, a hydrogen, whose estimator varies less than
that of the other atom. Exact slopes: differences of CCSD(T) energies with all electrons correlated, for H2 in cc-pV5Z,
where it is full configuration interaction, for LiH in cc-pCVQZ (H: cc-pVQZ).
"""

from __future__ import annotations

import sys
from pathlib import Path

from pyscf import cc, gto

from runs import machine, run, write_table

DISTANCES = {"h2": ("1.0", "1.401", "2.0"), "lih": ("2.5", "3.015", "3.8")}
"""Distances in bohr."""
BASIS: dict[str, dict[str, str]] = {"h2": {"H": "cc-pv5z"}, "lih": {"Li": "cc-pcvqz", "H": "cc-pvqz"}}
STEPS = 2400
"""Iterations of the evaluation."""
COLUMNS = (
    "system",
    "distance / bohr",
    "force / mHa/bohr",
    "stderr",
    "exact slope",
    "difference",
    "largest component that vanishes by symmetry, in its stderr",
    "status",
    "CPU minutes",
)


def exact_force(system: str, distance: float) -> float:
    """Force on the last atom along the bond, hartree per bohr, from energies 0.01 bohr to either side."""
    energies = []
    for place in (distance + 0.01, distance - 0.01):
        atoms = f"{'H' if system == 'h2' else 'Li'} 0 0 0; H 0 0 {place}"
        coupled = cc.CCSD(gto.M(atom=atoms, unit="bohr", basis=BASIS[system], verbose=0).RHF(conv_tol=1e-12).run())
        coupled.conv_tol = 1e-10
        coupled.kernel()
        energies.append(coupled.e_tot + coupled.ccsd_t())
    return float(energies[1] - energies[0]) / 0.02


def row(system: str, distance: str, directory: Path) -> tuple[str, ...]:
    """Row of the table for a molecule at a distance."""
    words = f"system={system}", f"system.distance={distance}", f"method.evaluation.steps={STEPS}"
    learned = run(("+method=ferminet", *words), directory / f"{system}-{distance}", threads=1)
    forces, stderr = (learned.result[f"forces{which}_hartree_per_bohr"] for which in ("", "_stderr"))
    value, error, slope = (
        1e3 * force for force in (forces[-1][2], stderr[-1][2], exact_force(system, float(distance)))
    )
    sideways = max(abs(forces[atom][axis] / stderr[atom][axis]) for atom in (0, 1) for axis in (0, 1))
    return (
        learned.result["system"]["formula"],
        distance,
        f"{value:+.2f}",
        f"{error:.2f}",
        f"{slope:+.2f}",
        f"{value - slope:+.2f}",
        f"{sideways:.1f}",
        learned.result["status"],
        f"{learned.cpu_s / 60:.1f}",
    )


def main(directory: Path) -> None:
    """Run all and write the table."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = [row(system, distance, directory) for system, points in DISTANCES.items() for distance in points]
    notes = (
        f"`+method=ferminet system=... system.distance=... method.evaluation.steps={STEPS}`, defaults otherwise, seed "
        f"0, one thread, other work beside; {machine()}. Force along the bond on the last atom, a hydrogen; exact "
        "slopes from CCSD(T) with all electrons, H2 in cc-pV5Z, LiH in cc-pCVQZ (H: cc-pVQZ)."
    )
    write_table(Path(__file__).with_suffix(".md"), "Forces of wavefunctions", notes, COLUMNS, rows)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).absolute())
