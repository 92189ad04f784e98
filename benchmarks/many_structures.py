"""Many structures with ANI-2x: energies of 10,000 and relaxations of 200, beside torchani and beside one by one.

`tools/bench many_structures MOLECULES.xyz DIRECTORY` writes many_structures.md. The structures are the
molecules of the file (QM9 or alike), displaced at random. One thread; processor time, which other work does not
affect, of calls in turn; torchani, in an environment with it as in ani_speed.py, computes batches of molecules
of similar size.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from ase import Atoms
from ase.io import read, write

from ani_speed import Peer, ani_2x, peer_work
from fusion.chemistry.structures import from_atoms
from fusion.chemistry.system import System
from fusion.errors import CalculationError
from fusion.methods.protocol import Method
from fusion.potentials import PotentialMethod, collate
from fusion.tasks.geometry.structures import atoms_of, largest_force
from fusion.tasks.relax.relaxation import Settings
from fusion.tasks.relax.together import relax
from runs import machine, run, write_table

NUMBER, RELAXED, TURNS = 10_000, 200, 3
BATCHES = (64, 256, 1024)
_PART = 2_000  # structures of a turn


def displaced(molecules: Sequence[Atoms], number: int, size: float) -> list[Atoms]:
    """Molecules in turn, with normally distributed displacements (Angstrom)."""
    random, found = np.random.default_rng(0), []
    for index in range(number):
        atoms = molecules[index % len(molecules)].copy()
        atoms.info, atoms.calc = {}, None
        atoms.positions += random.normal(scale=size, size=atoms.positions.shape)
        found.append(atoms)
    return found


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds of a call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def energies(systems: list[System]) -> list[list[str]]:
    """Structures per second by fusion and by torchani, for energies, and for energies and forces."""
    model, _ = ani_2x()
    model = model.requires_grad_(False)
    methods = {size: PotentialMethod("ani", model, dtype="float32", batch_size=size) for size in BATCHES}
    ordered = sorted(systems, key=lambda system: -len(system.symbols))[::5][:_PART]
    peer = Peer(model, torch.device("cpu"), "all_pairs").modes(8, alone=False)
    rows = []
    for forces in (False, True):
        wanted = {"energy", "forces"} if forces else {"energy"}
        works: dict[str, Callable[[], object]] = {}
        for size, method in methods.items():
            works[f"fusion, {size}"] = lambda method=method, wanted=wanted: method.calculate(ordered, wanted)  # type: ignore[misc]
        for mode, other in peer.items():
            for size in BATCHES:
                batches = [collate(ordered[start : start + size], torch.float32) for start in range(0, _PART, size)]
                calls = [peer_work(other, batch, forces) for batch in batches]
                works[f"torchani, {mode}, {size}"] = lambda calls=calls: [call() for call in calls]  # type: ignore[misc]
        for work in works.values():
            work()
        times: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(TURNS):
            for name, work in works.items():
                times[name].append(seconds(work))
        rate = {name: _PART / statistics.median(values) for name, values in times.items()}
        own, best = (
            max((name for name in rate if name.startswith(program)), key=rate.__getitem__)
            for program in ("fusion", "torchani")
        )
        what = f"energies{' and forces' * forces}, batches of {own.removeprefix('fusion, ')}"
        rows.append([what, f"{rate[own]:.0f}", f"{rate[best]:.0f}", best, f"{rate[own] / rate[best]:.1f}"])
        print(*rows[-1], sep=" | ", flush=True)
    return rows


def one_by_one(method: Method, systems: Sequence[System], fmax: float) -> int:
    """Relax each with ASE's L-BFGS, as `system=` does; return the number of steps."""
    from ase.optimize import LBFGS

    from fusion.chemistry import units

    steps = 0
    for system in systems:
        atoms = atoms_of(system, method)
        optimiser = LBFGS(atoms, logfile=None)
        if not optimiser.run(fmax=fmax * units.EV_ANGSTROM_PER_HARTREE_BOHR, steps=500):
            raise CalculationError(f"{system.name} did not relax")
        steps += optimiser.nsteps
    return steps


def relaxations(systems: list[System]) -> list[str]:
    """Seconds for a relaxation, together and one by one."""
    model, _ = ani_2x()
    method = PotentialMethod("ani", model.requires_grad_(False), dtype="float32", batch_size=256)
    settings = Settings({}, fmax=1e-4, steps=500)
    relax(method, systems[:2], settings)
    ends = []
    together = seconds(lambda: ends.extend(relax(method, systems, settings)))
    alone = seconds(lambda: one_by_one(method, systems, settings.fmax))
    worst = max(largest_force(np.asarray(end.result.properties["forces"])) for end in ends)
    number = len(systems)
    steps = sum(end.steps for end in ends) / number
    print(
        f"together {together:.1f} s, one by one {alone:.1f} s, {steps:.0f} steps, largest force {worst:.1e}", flush=True
    )
    return [
        f"relaxations of {number}, {steps:.0f} steps",
        f"{number / together:.1f}",
        f"{number / alone:.2f}",
        "fusion, one by one",
        f"{alone / together:.1f}",
    ]


def main(file: Path, directory: Path) -> None:
    """Run all and write the table."""
    torch.set_num_threads(1)
    directory.mkdir(parents=True, exist_ok=True)
    molecules = [atoms for atoms in read(file, ":") if set(atoms.symbols) <= set("HCNOF")]
    many = directory / "molecules.extxyz"
    if not many.is_file():
        write(many, displaced(molecules, NUMBER, 0.05), format="extxyz")
    systems = [from_atoms(atoms, name=f"m{k}") for k, atoms in enumerate(displaced(molecules, NUMBER, 0.05))]
    rows = energies(systems)
    rows.append(relaxations(systems[:RELAXED]))
    whole = run(("+method=ani", f"systems={many}"), directory / "command", threads=1)
    command = f"the command, with forces and spreads, reading and writing {NUMBER:,}"
    rows.append([command, f"{NUMBER / whole.cpu_s:.0f}", "", "", ""])
    notes = (
        f"ANI-2x (8 members, float32), {machine('torch', 'torchani')}, one thread, processor time. {len(molecules)} "
        f"molecules of {file.name}, on average {np.mean([len(m) for m in molecules]):.1f} atoms, displaced by 0.05 Å. "
        f"Both: the best of batches of {', '.join(map(str, BATCHES))} molecules, sorted by size; torchani: also of "
        f"its modes; medians of {TURNS} turns."
    )
    columns = ("what", "fusion, structures per second", "beside", "which", "ratio")
    write_table(Path(__file__).with_suffix(".md"), "Many structures", notes, columns, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
