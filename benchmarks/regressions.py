"""Guard against lost speed: `python benchmarks/regressions.py --check` compares ratios of times with the table.

Each row is a fast path of fusion beside the slow one that it replaces, measured in turn in one process with one thread.
A ratio hardly depends on the machine or on its load, so that a loss of a third is a change of the code. Without --check
the table is written anew. It takes about a minute; the weights are random, and nothing is downloaded.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate

from fusion.chemistry.system import System
from fusion.errors import CalculationError
from fusion.methods import by_name
from fusion.potentials import PotentialMethod
from fusion.wavefunctions.jets import laplacian_by_autograd
from fusion.wavefunctions.sampler import initial_electrons
from fusion_ferminet.network import FermiNet
from fusion_psiformer.network import Psiformer
from runs import machine, write_table

TABLE = Path(__file__).with_suffix(".md")
TURNS = 5
ALLOWED = 0.67  # smallest share of the ratio in the table
Work = Callable[[], object]


def molecules(number: int) -> list[System]:
    """Random clusters of 9 atoms, neutral singlets, in bohr."""
    generator = np.random.default_rng(0)
    symbols = ("C", "C", "O", "H", "H", "H", "H", "H", "H")
    grid = 2.6 * np.stack(np.meshgrid(*[np.arange(3.0)] * 3), axis=-1).reshape(-1, 3)
    places = (generator.permutation(grid)[:9] + 0.2 * generator.normal(size=(9, 3)) for _ in range(number))
    return [System(f"cluster {index}", symbols, place) for index, place in enumerate(places)]


def ani() -> Iterator[tuple[str, Work, Work]]:
    """Batches beside single structures."""
    torch.manual_seed(0)
    systems, wanted = molecules(64), {"energy", "forces"}
    network = instantiate(by_name.node("ani", {"weights": None})["model"]).requires_grad_(False)
    method = PotentialMethod("ani", network, dtype="float32")
    yield (
        "ANI, 64 molecules: a batch, beside one by one",
        lambda: method.calculate(systems, wanted),
        lambda: [method.calculate([system], wanted) for system in systems],
    )


def wavefunctions() -> Iterator[tuple[str, Work, Work]]:
    """Forward Laplacians beside those by automatic differentiation."""
    torch.manual_seed(0)
    system = System("lih", ("Li", "H"), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 3.015]]))
    electrons = initial_electrons(system, 64, torch.Generator().manual_seed(0)).float()
    for name, ansatz in (("FermiNet", FermiNet(system)), ("Psiformer", Psiformer(system))):
        network = ansatz.float().requires_grad_(False)
        yield (
            f"{name}, LiH, 64 walkers: forward Laplacian, beside automatic differentiation",
            lambda network=network: network.laplacian(electrons),  # type: ignore[misc]
            lambda network=network: laplacian_by_autograd(network, electrons),  # type: ignore[misc]
        )


def ratio(fast: Work, slow: Work) -> tuple[float, float]:
    """Median processor time of the fast path in ms, and how many times longer the slow one takes."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(TURNS + 1):
        for work, kept in zip((fast, slow), times, strict=True):
            began = time.process_time()
            work()
            if turn:  # the first compiles
                kept.append(1e3 * (time.process_time() - began))
    quick, long = map(statistics.median, times)
    return quick, long / quick


def kept() -> dict[str, float]:
    """Ratios of the table."""
    rows = re.findall(r"^\| (.+?) \| [\d.]+ \| ([\d.]+) \|$", TABLE.read_text(), re.MULTILINE)
    return {name: float(value) for name, value in rows}


def main(check: bool) -> None:
    """Measure, and write or check the table. Raises CalculationError for a lost ratio."""
    torch.set_num_threads(1)
    rows, lost, before = [], [], kept() if check else {}
    for source in (ani, wavefunctions):
        for name, fast, slow in source():
            milliseconds, times = ratio(fast, slow)
            rows.append([name, f"{milliseconds:.1f}", f"{times:.1f}"])
            print(f"{name}: {times:.1f} times" + (f", {before[name]:.1f} in the table" if check else ""), flush=True)
            if check and times < ALLOWED * before[name]:
                lost.append(f"{name}: {times:.1f} times instead of {before[name]:.1f}")
    if lost:
        raise CalculationError("slower than the table says: " + "; ".join(lost))
    if not check:
        notes = (
            f"Processor time of a fast path and how many times longer the slow one takes; {machine()}, one thread, "
            f"medians of {TURNS} turns. `tools/bench --check` fails if a ratio falls below {ALLOWED:.0%} of these."
        )
        write_table(TABLE, "Guard against lost speed", notes, ["what", "ms", "times"], rows)


if __name__ == "__main__":
    try:
        main("--check" in sys.argv[1:])
    except CalculationError as error:
        sys.exit(f"error: {error}")
