"""Labels by several workers: `python benchmarks/labelling.py MOLECULE.xyz DIRECTORY [NUMBER [BASIS]]`.

NUMBER displaced geometries of a molecule are labelled by Hartree-Fock: by a plain loop over `fusion.calculator`; by one
worker and by two; and by four commands on one directory, of which two are killed by SIGKILL at a third
of the work. The labels must be the same, none lost and none double, and readable as data. Two plain loops at once, each
over half of the geometries, show what two processes gain on the machine at best. Writes labelling.md.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write

import fusion
from fusion.datasets import load
from runs import machine, write_table

WORKERS, KILLED = 4, 2


def records(directory: Path) -> list[int]:
    """Numbers of the structures that the workers of a run have recorded."""
    lines = [line for file in (directory / "records").glob("*.jsonl") for line in file.read_text().split("\n")[:-1]]
    return [entry["index"] for entry in map(json.loads, lines) if "index" in entry]


def words(structures: Path, directory: Path, basis: str) -> list[str]:
    """Words of one worker."""
    method = ["+method=hf", f"method.basis={basis}", "task=label", f"systems={structures}", "executor.workers=1"]
    return [sys.executable, "-m", "fusion", *method, f"hydra.run.dir={directory}"]


def started(structures: Path, directory: Path, basis: str, number: int) -> list[subprocess.Popen[bytes]]:
    """Start workers with one thread each."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    log = directory.with_suffix(".log").open("ab")
    command = words(structures, directory, basis)
    return [subprocess.Popen(command, env=environment, stdout=log, stderr=log) for _ in range(number)]


def together(structures: Path, directory: Path, basis: str, workers: int, killed: int, number: int) -> float:
    """Wall seconds of several workers, some of which are killed at a third of the work."""
    began = time.perf_counter()
    processes = started(structures, directory, basis, workers)
    while killed and len(records(directory)) < number // 3:
        time.sleep(0.1)
    for process in processes[:killed]:
        process.send_signal(signal.SIGKILL)
    ends = [process.wait() for process in processes]
    assert ends == [*([-signal.SIGKILL] * killed), *([0] * (workers - killed))], ends
    return time.perf_counter() - began


def label(frames: list[Atoms], basis: str) -> None:
    """Compute energies and forces one after the other, every SCF from its own start as workers do."""
    for atoms in frames:
        fusion.calculator("hf", basis=basis).calculate(atoms, ["energy", "forces"])


def loops(frames: list[Atoms], basis: str, number: int) -> float:
    """Wall seconds of plain loops at once, each over its part, the imports and a first calculation not counted."""
    with ProcessPoolExecutor(number, get_context("spawn")) as processes:
        list(processes.map(label, [frames[:1]] * number, [basis] * number))
        began = time.perf_counter()
        list(processes.map(label, [frames[part::number] for part in range(number)], [basis] * number))
        return time.perf_counter() - began


def main(molecule: Path, directory: Path, number: int, basis: str) -> None:
    """Run all and write the table."""
    directory.mkdir(parents=True, exist_ok=True)
    start, random = read(molecule), np.random.default_rng(0)
    frames = []
    for _ in range(number):
        frames.append(start.copy())
        frames[-1].positions += random.normal(scale=0.05, size=start.positions.shape)
    structures = directory / "structures.extxyz"
    write(structures, frames, format="extxyz")
    os.environ["OMP_NUM_THREADS"] = "1"
    loop, halves = loops(frames, basis, 1), loops(frames, basis, 2)
    one = together(structures, directory / "one", basis, 1, 0, number)
    two = together(structures, directory / "two", basis, 2, 0, number)
    four = together(structures, directory / "four", basis, WORKERS, KILLED, number)
    counts = Counter(records(directory / "four"))
    assert counts == Counter(range(number)), [index for index, times in counts.items() if times != 1]
    sets = [load({"path": str(directory / name / "labels.extxyz")}, directory) for name in ("one", "two", "four")]
    energies = [np.abs(np.asarray(each.energy) - np.asarray(sets[0].energy)).max() for each in sets]
    forces = [np.abs(np.asarray(each.forces) - np.asarray(sets[0].forces)).max() for each in sets]
    rows = [
        ["plain loop over a calculator", f"{loop:.0f}", "1", "", ""],
        ["two plain loops at once, half each", f"{halves:.0f}", f"{loop / halves:.2f}", "", ""],
    ]
    names = ("one worker", "two workers", f"{WORKERS} workers, {KILLED} of them killed")
    for name, wall, energy, force in zip(names, (one, two, four), energies, forces, strict=True):
        rows.append([name, f"{wall:.0f}", f"{loop / wall:.2f}", f"{energy:.0e}", f"{force:.0e}"])
    notes = (
        f"{number} geometries of {molecule.name}, HF/{basis} with forces, one thread each, {machine()}. Largest "
        "differences to the labels of one worker; every structure has exactly one label."
    )
    columns = ("by", "wall / s", "times as fast as the loop", "energies / Ha", "forces / Ha/bohr")
    write_table(Path(__file__).with_suffix(".md"), "Labels by several workers", notes, columns, rows)


if __name__ == "__main__":
    more = sys.argv[3:]
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(more[0]) if more else 300, more[1] if len(more) > 1 else "def2-svp")
