"""Seconds per SCF cycle of DM21, and of the complete SCF, and of PySCF's B3LYP on the same grid in the same run.

`OMP_NUM_THREADS=2 python benchmarks/dm21_speed.py [MOLECULE.xyz ...] [--growth]`; writes dm21_speed.md (and with
--growth, alkanes up to 24 carbon atoms under a memory bound, dm21_speed_growth.md). Seconds per cycle are those of the
SCF without its start, integrals and their storage included, divided by the number of cycles.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase.build
import ase.io
import numpy as np
import psutil
import torch
from ase import Atoms
from pyscf import dft, gto, lib

import fusion
from fusion.parallel.blas_threads import one_thread
from runs import machine, write_table

BASIS, GRID_LEVEL, CONV_TOL, CONV_TOL_GRAD = "def2-svp", 3, 1e-7, 1e-3
MOLECULES = ("H2O", "CH4", "C2H6", "C6H6")
ORIGINAL = {"H2O": 3.9, "CH4": 4.6, "C2H6": 9.4, "C6H6": 45.0}
"""Seconds per cycle of the authors' code, two threads of an idle machine, default grids of the same level and basis."""
ORIGINAL_IN_B3LYP_CYCLES = {"H2O": 26, "CH4": 25, "C2H6": 27, "C6H6": 44}
CHAINS, BOUND_MB, SAMPLE = (2, 4, 8, 16, 24), 300.0, 40000
PARTS = {
    "orbitals": ("active_orbitals",),
    "integrals": ("kept",),
    "contraction": ("contract_kept", "sizes"),
    "features": ("_features", "_electrons"),
    "network": ("differentiate",),
    "matrix": ("_add_contraction",),
}
"""Columns of the profile: functions of fusion.functionals, whose time includes all calls inside."""


@dataclass
class Clock:
    """Wall, user and system seconds."""

    wall: float = 0.0
    user: float = 0.0
    system: float = 0.0
    peak_mb: float = field(default=0.0)

    @property
    def cpu(self) -> float:
        return self.user + self.system


@contextmanager
def timed() -> Iterator[Clock]:
    """Measure times and the growth of the resident memory while the block runs."""
    clock, process, done = Clock(), psutil.Process(), threading.Event()
    before, first = os.times(), process.memory_info().rss
    began = time.perf_counter()

    def watch() -> None:
        while not done.wait(0.02):
            clock.peak_mb = max(clock.peak_mb, 1e-6 * (process.memory_info().rss - first))

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield clock
    clock.wall, after = time.perf_counter() - began, os.times()
    clock.user, clock.system = after.user - before.user, after.system - before.system
    done.set()
    watcher.join()


def molecule(atoms: Atoms) -> gto.Mole:
    """PySCF molecule of an ASE structure."""
    pairs = list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist(), strict=True))
    return gto.M(atom=pairs, basis=BASIS, spin=sum(atoms.numbers) % 2, verbose=0)


def compare(name: str, atoms: Atoms) -> list[str]:
    """Table row of one molecule."""
    mol = molecule(atoms)
    conventional = (dft.RKS if mol.spin == 0 else dft.UKS)(mol, xc="b3lyp")
    conventional.grids.level, conventional.conv_tol, conventional.conv_tol_grad = GRID_LEVEL, CONV_TOL, CONV_TOL_GRAD
    with timed() as b3lyp, one_thread():
        conventional.kernel()
    learned = fusion.kohn_sham(mol, "dm21", grid_level=GRID_LEVEL, conv_tol=CONV_TOL)
    learned.conv_tol_grad = CONV_TOL_GRAD
    learned.grids.build()
    with timed() as start:
        density = learned.get_init_guess(mol, "b3lyp")
    with timed() as scf:
        learned.kernel(dm0=density)
    assert learned.converged and conventional.converged
    cycles = learned.cycles
    wall, cpu = scf.wall / cycles, scf.cpu / cycles
    dropped = learned._numint.dropped
    original = ORIGINAL.get(name)
    whole = None if original is None else original * cycles + b3lyp.wall
    ratio = (scf.cpu / cycles) / (b3lyp.cpu / conventional.cycles)
    values = [
        name, str(mol.nao), str(learned.grids.size), f"{dropped.points / learned.grids.size:.0%}",
        f"{dropped.energy:.0e}", str(cycles), f"{wall:.2f}", f"{cpu:.2f}", f"{scf.system / cycles:.2f}",
        f"{b3lyp.wall / conventional.cycles:.2f}", f"{ratio:.0f}", str(ORIGINAL_IN_B3LYP_CYCLES.get(name, "")),
        "" if original is None else f"{original}", "" if original is None else f"{original / wall:.1f}",
        f"{start.wall + scf.wall:.1f}", f"{b3lyp.wall:.1f}",
        "" if whole is None else f"{whole / (start.wall + scf.wall):.1f}",
    ]  # fmt: skip
    print(" ".join(values), flush=True)
    return values


def profile(name: str, atoms: Atoms) -> list[list[str]]:
    """CPU microseconds per grid point of the parts of the first, a draft's and a final call, one thread."""
    lib.num_threads(1)
    torch.set_num_threads(1)
    mol = molecule(atoms)
    learned = fusion.kohn_sham(mol, "dm21", grid_level=GRID_LEVEL)
    density = learned.get_init_guess(mol, "b3lyp")
    grids, numint = learned.grids.build(), learned._numint
    numint.draft = True
    rows = []
    for what in ("first", "draft", "final"):
        numint.draft = what != "final"
        profiler = cProfile.Profile(time.process_time)
        profiler.runcall(numint.nr_rks, mol, grids, "", density)
        statistics: Any = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
        seconds = {"all": 0.0, **dict.fromkeys(PARTS, 0.0)}
        for (file, _, function), (_, _, _, inclusive, _) in statistics.items():
            if "functionals" in file:
                if function == "nr_rks":
                    seconds["all"] += inclusive
                for part, functions in PARTS.items():
                    seconds[part] += inclusive if function in functions else 0.0
        rows.append([name, what, *(f"{1e6 * value / grids.size:.1f}" for value in seconds.values())])
        print(" ".join(rows[-1]), flush=True)
    return rows


def alkane(carbons: int) -> Atoms:
    """A zigzag chain C_n H_2n+2 with usual bond lengths and tetrahedral angles."""
    step = np.array([1.54 * np.sin(np.radians(54.75)), 0.0, 1.54 * np.cos(np.radians(54.75))])
    signs = np.array([(-1.0) ** i for i in range(-1, carbons + 1)])
    chain = np.array([[i * step[0], 0.0, 0.5 * sign * step[2]] for i, sign in enumerate(signs)])
    positions = list(chain[1:-1])
    for i in range(1, carbons + 1):
        outwards = 1.09 * 0.577 * signs[i] * np.array([0.0, 0.0, 1.0])
        positions += [chain[i] + outwards + 1.09 * 0.816 * np.array([0.0, side, 0.0]) for side in (-1.0, 1.0)]
    for inner, outer in ((1, 0), (-2, -1)):
        positions.append(chain[inner] + (chain[outer] - chain[inner]) * 1.09 / 1.54)
    return Atoms(f"C{carbons}H{2 * carbons + 2}", positions=positions)


def growth(carbons: int) -> list[str]:
    """The first call and a draft's second one after a small change, at some of the grid and in bounded memory."""
    mol = molecule(alkane(carbons))
    learned = fusion.kohn_sham(mol, "dm21", grid_level=GRID_LEVEL, memory_mb=BOUND_MB)
    density = learned.get_init_guess(mol, "huckel")
    grids, numint = learned.grids.build(), learned._numint
    size = grids.size
    chosen = (np.arange(size) // 512) % max(1, size // SAMPLE) == 0  # whole blocks, evenly
    grids.coords, grids.weights = grids.coords[chosen], grids.weights[chosen]
    points = len(grids.weights)
    numint.draft = True
    with timed() as first:
        numint.nr_rks(mol, grids, "", density)
    with timed() as second:
        numint.nr_rks(mol, grids, "", 0.9999 * density)
    working = numint.working_grid(mol, grids, 0.5 * density[None])
    row = [
        f"C{carbons}H{2 * carbons + 2}", str(mol.nao), str(size), str(points),
        f"{working.stored_blocks / len(working):.0%}", f"{1e6 * first.cpu / points:.0f}",
        f"{first.cpu * size / points:.0f}", f"{1e6 * second.cpu / points:.0f}", f"{second.cpu * size / points:.0f}",
        f"{max(first.peak_mb, second.peak_mb):.0f}",
    ]  # fmt: skip
    print(" ".join(row), flush=True)
    return row


def main() -> None:
    """Run, print, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="structures instead of H2O, CH4, C2H6 and C6H6")
    parser.add_argument("--growth", action="store_true")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    if arguments.growth:
        write_growth([growth(carbons) for carbons in CHAINS], load)
        return
    molecules = {name: ase.build.molecule(name) for name in MOLECULES}
    if arguments.files:
        molecules = {file.stem: ase.io.read(file) for file in arguments.files}
    compare("warm-up", ase.build.molecule("OH"))  # compiled code is loaded
    rows = [compare(name, atoms) for name, atoms in molecules.items()]
    parts = [row for name, atoms in molecules.items() for row in profile(name, atoms)]
    write(rows, parts, load)


def write(rows: list[list[str]], parts: list[list[str]], load: float) -> None:
    """Write dm21_speed.md: the comparison, and below it the profile."""
    columns = [
        "", "basis functions", "grid points", "left out", "by estimate, Ha", "cycles", "s per cycle", "CPU s per cycle",
        "of it system", "B3LYP, s per cycle", "CPU, in B3LYP cycles", "original, in B3LYP cycles",
        "original, s per cycle", "times faster", "whole SCF, s", "B3LYP's, s", "times faster, whole",
    ]  # fmt: skip
    notes = (
        f"DM21 from a B3LYP density to {CONV_TOL:.0e} Ha, {BASIS}, grid level {GRID_LEVEL}; {machine()}, "
        f"{os.environ.get('OMP_NUM_THREADS', 'all')} threads, of linear algebra one, for B3LYP too (two beside PySCF's "
        f"own cost it half its speed); load before the run {load:.1f}. s per cycle: SCF without its start, integrals "
        "and storage included, by the number of cycles. Of a loaded machine the CPU seconds and the ratio to B3LYP's "
        "CPU seconds say more than the wall. original: the authors' code on two threads of an idle machine; its whole "
        "SCF is taken to be B3LYP's and as many cycles as here. System time is that of memory given to the process for "
        "the first time. Drafts (network and contraction in float32) count as cycles."
    )
    path = Path(__file__).with_suffix(".md")
    write_table(path, "Speed of DM21", notes, columns, rows)
    lines = [
        "", "CPU microseconds per grid point, one density and potential (first call: integrals are made and stored; "
        "draft: network in float32; final: in float64). contraction: integrals with the density; matrix: features' "
        "derivatives with the orbitals. One thread.", "",
        "| | call | " + " | ".join(["all", *PARTS]) + " |", "|" + "---|" * (len(PARTS) + 3),
        *("| " + " | ".join(row) + " |" for row in parts),
    ]  # fmt: skip
    path.write_text(path.read_text() + "\n".join(lines) + "\n")


def write_growth(rows: list[list[str]], load: float) -> None:
    """Write dm21_speed_growth.md."""
    columns = [
        "", "basis functions", "grid points", "measured at", "stored", "first call, us per point", "CPU s, whole grid",
        "draft after it, us per point", "CPU s, whole grid ", "peak of memory, MB",
    ]  # fmt: skip
    notes = (
        f"Energy and potential of alkanes, {BASIS}, grid level {GRID_LEVEL}, memory_mb={BOUND_MB:.0f}; Hückel density, "
        "then one that differs by 1e-4 of it; CPU time, at blocks of points evenly from the whole grid. stored: blocks "
        "whose integrals fit; the others' are made in every call, those of a draft as far as the change asks for them. "
        f"{machine()}, load before the run {load:.1f}."
    )
    write_table(Path(__file__).with_name("dm21_speed_growth.md"), "Growth of DM21 with size", notes, columns, rows)


if __name__ == "__main__":
    main()
