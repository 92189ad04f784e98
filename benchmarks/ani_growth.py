"""C38H28 (66 atoms): time of an energy with forces by ANI-2x, and of one energy by a density functional.

`python benchmarks/ani_growth.py STRUCTURE DIRECTORY [estimate]` (one thread); writes ani_growth.md. STRUCTURE
is a file of E-1,2-di(biphenyl-4-yl)-1,2-diphenylethene. The functional is B3LYP in 6-31G(d), Cartesian, with density
fitting; total energies have different zeros and are not compared. The same energy of benzene, biphenyl and terphenyl
shows how the time grows; with `estimate` that of C38H28 is a power of the number of basis functions, fitted to theirs.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write
from ase.units import Hartree

import fusion
from fusion.console.format import duration
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
    "task._target_=fusion.tasks.compare.cost.MeasuredEnergy",
    "+task.forces=false",
)


def ani(structure: Path) -> tuple[float, float, float]:
    """Energy (eV), wall and CPU seconds of an energy with forces, the median of several at moved nuclei."""
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


def phenylene(rings: int) -> Atoms:
    """Benzene, biphenyl, p-terphenyl, ...: planar, with bonds of 1.39, 1.49 and 1.09 Angstrom."""
    symbols, places = [], []
    for ring in range(rings):
        centre = np.array([ring * (2 * 1.39 + 1.49), 0.0, 0.0])
        for corner in range(6):
            direction = np.array([np.cos(np.pi * corner / 3), np.sin(np.pi * corner / 3), 0.0])
            symbols.append("C")
            places.append(centre + 1.39 * direction)
            joined = (corner == 0 and ring < rings - 1) or (corner == 3 and ring > 0)
            if not joined:
                symbols.append("H")
                places.append(centre + (1.39 + 1.09) * direction)
    return Atoms(symbols, np.array(places))


def functional(structure: Path, directory: Path) -> tuple[float, float, float]:
    """Energy (hartree), wall and CPU seconds of one energy by the density functional."""
    result = run((f"system={structure}", *DFT), directory, threads=1).result
    assert result["status"] == "ok", result.get("message")
    return result["energy"]["value"], result["cost"]["wall_s"], result["cost"]["cpu_s"]


def functions(atoms: Atoms) -> int:
    """Cartesian 6-31G(d) functions: 15 of carbon, 2 of hydrogen."""
    return sum(15 if symbol == "C" else 2 for symbol in atoms.get_chemical_symbols())


def main(structure: Path, directory: Path, estimated: bool) -> None:
    """Time all, write the table."""
    directory.mkdir(parents=True, exist_ok=True)
    rows, sizes, times = [], [], []
    for rings in (1, 2, 3):
        file = directory / f"phenylene{rings}.xyz"
        atoms = phenylene(rings)
        write(file, atoms)
        energy, wall, processor = functional(file, directory / f"phenylene{rings}")
        learned, learned_wall, learned_processor = ani(file)
        sizes.append(functions(atoms))
        times.append(processor)
        rows.append(_row(atoms, learned_wall, learned_processor, duration(wall), processor, ""))
    whole = read(structure)
    learned, learned_wall, learned_processor = ani(structure)
    power, offset = np.polyfit(np.log(sizes), np.log(times), 1)
    if estimated:
        wall, processor = "–", float(np.exp(offset + power * np.log(functions(whole))))
        rows.append(_row(whole, learned_wall, learned_processor, wall, processor, "about "))
        how = f"The functional's time for C38H28 is ESTIMATED, as the {power:.1f}th power of the number of functions."
    else:
        energy, taken, processor = functional(structure, directory / "dft")
        rows.append(_row(whole, learned_wall, learned_processor, duration(taken), processor, ""))
        how = f"Energies of C38H28: {energy:.6f} Ha by the functional, {learned / Hartree:.6f} Ha by ANI-2x, which has "
        how += f"another zero. The functional's time grows as the {power:.1f}th power among the small ones."
    notes = (
        f"ANI-2x: energy and forces, median of {CALLS} calls, the model loaded. B3LYP/6-31G(d): one energy, Cartesian "
        f"d functions, density fitting, grid level 2. One thread of {machine()}, shared with other programs (load "
        f"{os.getloadavg()[2]:.0f}): compare CPU times. {how}"
    )
    columns = ["", "atoms", "functions", "ANI-2x, wall", "ANI-2x, CPU", "B3LYP, wall", "B3LYP, CPU", "ratio of CPU"]
    write_table(Path(__file__).with_suffix(".md"), "C38H28 by ANI-2x and B3LYP", notes, columns, rows)


def _row(atoms: Atoms, wall: float, processor: float, dft_wall: str, dft: float, how: str) -> list[str]:
    counts = [str(number) for number in (len(atoms), functions(atoms))]
    learned = [f"{1e3 * wall:.0f} ms", f"{1e3 * processor:.1f} ms"]
    functional = [dft_wall, how + duration(dft), f"{how}{dft / processor:,.0f}"]
    return [atoms.get_chemical_formula("hill"), *counts, *learned, *functional]


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute(), "estimate" in sys.argv[3:])
