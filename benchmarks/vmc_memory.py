"""Peak memory and CPU time of one optimisation step, with the scores of all walkers at once and in groups.

`python benchmarks/vmc_memory.py [--walkers 2048]`; writes vmc_memory.md. Methane, the published FermiNet
4 x (256, 32) with 16 determinants, float32, one thread, two steps at fixed walkers, the second of which is timed. Every
row is a process of its own; its memory is the growth of the resident set's peak (getrusage) during the steps.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fusion.wavefunctions.optimisers import Constant, RecordsScores
from fusion.wavefunctions.optimisers.adam import Adam
from fusion.wavefunctions.optimisers.kfac import Kfac
from fusion.wavefunctions.optimisers.spring import Spring
from fusion.wavefunctions.resources import default_chunk
from fusion.wavefunctions.sampler import initial_electrons
from fusion.wavefunctions.scores.memory import gram_memory
from fusion_ferminet.network import FermiNet
from runs import machine, write_table
from vmc_speed import built_in

OPTIMISERS = {
    "SPRING": partial(Spring, damping=1.0, momentum=0.9, max_norm=1e-3),
    "K-FAC": partial(Kfac, damping=1e-3, decay=0.95, max_norm=1e-3),
    "Adam": partial(Adam, betas=(0.9, 0.999)),
}
CASES = [*(("SPRING", n) for n in (1, 2, 4, 8)), *(("K-FAC", n) for n in (1, 2, 4)), ("Adam", 1)]
NOTE = (
    "Memory: growth of the peak of the resident set during two steps; estimate: what a run expects of its scores"
    " and Gram matrix. SPRING keeps two groups, so that two need as much as one; its Gram matrix needs all pairs "
    "of groups, which are recorded again. K-FAC takes the groups in turn. Adam adds up gradients and keeps no scores."
)


def peak() -> float:
    """Peak of the resident set so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, groups: int, walkers: int) -> dict[str, float]:
    """Do two steps; return the growth of the peak memory, the estimate of it (both MiB), and CPU seconds of a step."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    system = built_in("ch4")
    ansatz, chunk = FermiNet(system), default_chunk(system)
    electrons = initial_electrons(system, walkers, torch.Generator().manual_seed(0)).float()
    deviation = torch.randn(walkers, dtype=torch.float64)
    optimiser: Any = OPTIMISERS[name](ansatz, 4 * chunk, Constant(0.05))
    OPTIMISERS[name](ansatz, 4 * chunk, Constant(0.05)).step(electrons[:2], deviation[:2], 0)  # loads libraries
    estimate = 0.0
    if isinstance(optimiser, RecordsScores):
        recorder = optimiser.scores
        recorder.groups = groups
        estimate = recorder.memory(electrons).needed(walkers, groups, 1) / 2**20
        estimate += gram_memory(walkers) / 2**20 if recorder.pairs else 0.0
    before = peak()
    optimiser.step(electrons, deviation, 0)
    began = time.process_time()
    optimiser.step(electrons, deviation, 1)
    return {"memory": peak() - before, "estimate": estimate, "cpu_s": time.process_time() - began}


def apart(name: str, groups: int, walkers: int) -> dict[str, float]:
    """`measure` in a process of its own."""
    words = [sys.executable, __file__, "--walkers", str(walkers), "--case", name, str(groups)]
    done: dict[str, float] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return done


def main() -> None:
    """Measure one case, or write the table of all cases."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--walkers", type=int, default=2048)
    parser.add_argument("--case", nargs=2)
    arguments = parser.parse_args()
    if arguments.case:
        name, groups = arguments.case
        print(json.dumps(measure(name, int(groups), arguments.walkers)))
        return
    rows = []
    for name, groups in CASES:
        measured = apart(name, groups, arguments.walkers)
        estimate = f"{measured['estimate']:.0f}" if measured["estimate"] else ""
        rows.append([name, str(groups), f"{measured['memory']:.0f}", estimate, f"{measured['cpu_s']:.1f}"])
        print(*rows[-1], flush=True)
    note = f"Methane, {arguments.walkers} walkers, published FermiNet, float32, one thread; {machine()}. {NOTE}"
    heads = ["optimiser", "groups", "memory / MiB", "estimate / MiB", "CPU s of a step"]
    write_table(Path(__file__).with_suffix(".md"), "Memory of an optimisation step", note, heads, rows)


if __name__ == "__main__":
    main()
