"""C38H28 (66 atoms): the time of an energy with forces by ANI-2x beside that of one energy by a density functional.

`python benchmarks/compare_c38h28.py STRUCTURE DIRECTORY` (one thread, about half an hour); writes compare_c38h28.md.
STRUCTURE is a file of E-1,2-di(biphenyl-4-yl)-1,2-diphenylethene. The functional is B3LYP in 6-31G(d), Cartesian, with
density fitting; nothing of the total energies is compared: they have different zeros.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import fusion
from fusion.report import duration
from runs import machine, run, write_table

CALLS = 20
DFT = (
    "+method=dft",
    "method.xc=b3lyp",
    "method.basis=6-31g*",
    "method.cartesian=true",
    "method.density_fit=true",
    "method.grid_level=2",
    "method.conv_tol=1e-7",
    "task._target_=fusion.tasks.comparing.measured.MeasuredEnergy",
    "+task.forces=false",
)


def ani(structure: Path) -> tuple[float, float, float]:
    """Energy (eV), wall and CPU seconds of an energy with forces, the median of several at moved nuclei."""
    from ase.io import read

    atoms = read(structure)
    atoms.calc = fusion.calculator("ani-2x")
    energy = atoms.get_potential_energy()
    walls, processors = [], []
    for _ in range(CALLS):
        atoms.rattle(1e-4, seed=len(walls))
        wall, processor = time.perf_counter(), time.process_time()
        atoms.get_forces()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return energy, sorted(walls)[CALLS // 2], sorted(processors)[CALLS // 2]


def main(structure: Path, directory: Path) -> None:
    """Time both, write the table."""
    directory.mkdir(parents=True, exist_ok=True)
    words = (f"system={structure}", *DFT)
    outcome = run(words, directory / "dft", threads=1)
    cost, energy = outcome.result["cost"], outcome.result["energy"]["value"]
    learned, wall, processor = ani(structure)
    rows = [
        ["ANI-2x, energy and forces", f"{learned:.3f} eV", f"{1e3 * wall:.0f} ms", f"{1e3 * processor:.0f} ms", "1"],
        [
            "B3LYP/6-31G(d), energy",
            f"{energy:.6f} Ha",
            duration(cost["wall_s"]),
            duration(cost["cpu_s"]),
            f"{cost['cpu_s'] / processor:,.0f}",
        ],
    ]
    load = os.getloadavg()[2]
    notes = (
        f"One thread; {machine()}, shared with other programs (load {load:.1f}): compare CPU times. Density fitting, "
        f"grid level 2, Cartesian d functions, {outcome.result['status']}. ANI: median of {CALLS} calls, the model "
        "loaded. Total energies have different zeros and are not compared."
    )
    columns = ["", "energy", "wall", "CPU", "ratio of CPU"]
    write_table(Path(__file__).with_suffix(".md"), "C38H28, 66 atoms", notes, columns, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute())
