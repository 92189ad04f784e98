"""Share of a molecular dynamics step that is spent outside the model.

`python benchmarks/md_overhead.py [--threads 1]`; writes md_overhead.md. Alkanes and boxes of water, ANI-2x with all its
members in float32, rows and frames written as by default; the command line's own figures.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.io import write

from runs import machine, run, write_table

STEPS = {9: 1000, 50: 500, 98: 300, 192: 150, 648: 40}


def alkane(carbons: int) -> Atoms:
    """CnH2n+2, all trans, with standard bonds and angles, close enough to a minimum as a start."""
    bond, half = 1.53, np.radians(112.0) / 2
    chain = np.array([[i * bond * np.sin(half), (i % 2) * bond * np.cos(half), 0.0] for i in range(carbons)])
    hydrogens = []
    for i, (x, y, _) in enumerate(chain):
        side = 1.0 if i % 2 else -1.0
        hydrogens += [(x, y + side * 0.63, z) for z in (-0.89, 0.89)]
        if i in (0, carbons - 1):
            out = -1.0 if i == 0 else 1.0
            hydrogens.append((x + out * 1.09 * np.sin(half), y - side * 1.09 * np.cos(half), 0.0))
    return Atoms(f"C{carbons}H{len(hydrogens)}", np.vstack([chain, hydrogens]))


def water(edge: int) -> Atoms:
    """Box of edge^3 molecules at the density of the liquid, in random orientations."""
    random = np.random.default_rng(0)
    box = Atoms(cell=[3.104 * edge] * 3, pbc=True)
    for place in np.ndindex(edge, edge, edge):
        one = molecule("H2O")
        one.rotate(random.uniform(0, 360), random.normal(size=3), center="COM")
        one.translate(3.104 * np.array(place))
        box += one
    return box


def main(threads: int) -> None:
    """Simulate every system in two ensembles and write the table."""
    systems = {"C2H5OH": molecule("CH3CH2OH"), "C16H34": alkane(16), "C32H66": alkane(32)}
    systems |= {"64 H2O, periodic": water(4), "216 H2O, periodic": water(6)}
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for label, atoms in systems.items():
            file = Path(name) / f"{len(atoms)}.xyz"
            write(file, atoms, format="extxyz")
            for ensemble in ("nve", "langevin"):
                words = ["+method=ani", "dtype=float32", "task=md", f"system={file}", f"ensemble={ensemble}"]
                words += [f"task.steps={STEPS[len(atoms)]}", "task.timestep_fs=0.25"]
                outcome = run(words, Path(name) / f"{len(atoms)}-{ensemble}", threads)
                md = outcome.result["md"]
                outside = md["step_ms"] * (1 - md["model_fraction"])
                figures = (f"{md['step_ms']:.2f}", f"{outside:.2f}", f"{100 * (1 - md['model_fraction']):.1f} %")
                rows.append((label, len(atoms), ensemble, *figures, f"{md['ns_per_day']:.2g}"))
    notes = (
        f"ANI-2x, 8 members, float32, {threads} thread{'s' * (threads > 1)}; {machine()}. A row of md.csv each 10 "
        "steps, a frame of md.extxyz each 20. Outside of the model is all that is not `calculate` of the method: the "
        "integrator (ASE's), files, checks, progress line. ns/day at a time step of 0.25 fs."
    )
    columns = ("system", "atoms", "ensemble", "step / ms", "outside of the model / ms", "share", "ns/day")
    write_table(
        Path(__file__).with_suffix(".md"), "Molecular dynamics: time outside of the model", notes, columns, rows
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    main(parser.parse_args().threads)
