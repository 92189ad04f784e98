"""Seconds per optimisation iteration of the published FermiNet, split into its parts, or compared with the original.

`python benchmarks/vmc_speed.py [--device cuda]`; writes vmc_speed.md (vmc_speed_cuda.md on a GPU). Network
4 x (256, 32), 16 determinants, 10 Metropolis moves, SPRING, float32; medians over repeats, the systems take
turns, so that other work on the machine affects them equally.

`python benchmarks/vmc_speed.py --peer PYTHON` compares complete iterations of FermiNet and Psiformer with those of the
JAX original (google-deepmind/ferminet), which the interpreter PYTHON can import, and writes vmc_speed_peer.md. Both
programs are started and warmed up, then compute blocks of iterations in turn on the same two cores. Other work on these
makes the figures useless: OpenMP threads that wait for each other use CPU time. Set-up:

    python3.12 -m venv jax
    jax/bin/pip install jax==0.8.3 kfac-jax==0.0.8 folx==0.2.30 absl-py attrs chex h5py ml-collections optax pandas
    jax/bin/pip install pyblock pyscf scipy
    git clone https://github.com/google-deepmind/ferminet && git -C ferminet checkout 0ce3411
    jax/bin/pip install --no-deps ./ferminet
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from blocks import Block, Worker
from fusion.chemistry import system_input
from fusion.chemistry.system import System
from fusion.wavefunctions.clipping import clip
from fusion.wavefunctions.hamiltonians import molecular
from fusion.wavefunctions.optimisers import Constant
from fusion.wavefunctions.optimisers.spring import Spring
from fusion.wavefunctions.resources import default_chunk
from fusion.wavefunctions.sampler import Metropolis, initial_electrons
from fusion_ferminet.network import FermiNet
from fusion_psiformer.network import Psiformer
from runs import machine, write_table

NETWORKS = {"FermiNet": FermiNet, "Psiformer": Psiformer}  # their defaults are the published ones


@dataclass(frozen=True)
class Case:
    """Network, built-in system and number of walkers."""

    network: str
    system: str
    walkers: int


CASES = (Case("FermiNet", "LiH", 512), Case("FermiNet", "CH4", 128), Case("FermiNet", "N2", 128))
COMPARED = (*CASES, Case("Psiformer", "CH4", 128))
PEER = {"LiH": (0.79, 1.45), "CH4": (0.91, 1.7), "N2": (1.53, 2.85)}  # JAX original, KFAC, fastest Laplacian; see notes
REPEATS = 7
MOVES = 10


class Iteration:
    """Optimisation iteration of one case, in parts that can be timed."""

    def __init__(self, case: Case, device: torch.device) -> None:
        torch.manual_seed(0)
        system, walkers = built_in(case.system.lower()), case.walkers
        self.ansatz = NETWORKS[case.network](system).to(device)
        self.hamiltonian = molecular(system).to(device)
        electrons = initial_electrons(system, walkers, torch.Generator().manual_seed(0)).float().to(device)
        self.sampler = Metropolis(electrons, torch.Generator(device).manual_seed(0), 0.1)
        self.chunk = default_chunk(system) if device.type == "cpu" else walkers
        self.spring = Spring(self.ansatz, 4 * self.chunk, Constant(1e-3), 0.1, 0.9, 1e-3)
        self.count = 0

    def parts(self) -> dict[str, Callable[[], None]]:
        return {"sampling": self.sample, "local energy": self.measure, "optimiser": self.optimise}

    @torch.no_grad()
    def sample(self) -> None:
        self.sampler.run(lambda electrons: 2 * self.ansatz(electrons)[1], MOVES)

    @torch.no_grad()
    def measure(self) -> None:
        self.local = clip(self.hamiltonian.local_energy(self.ansatz, self.sampler.electrons, self.chunk), 5.0)

    @torch.no_grad()
    def optimise(self) -> None:
        self.spring.step(self.sampler.electrons, self.local.deviation, self.count)
        self.count += 1


def built_in(name: str) -> System:
    """Read a system that fusion comes with."""
    from omegaconf import OmegaConf

    file = Path(__file__).parents[1] / "conf" / "system" / f"{name}.yaml"
    config = OmegaConf.create({"system": OmegaConf.load(file)})
    return system_input.read(OmegaConf.to_container(config.system, resolve=True))  # type: ignore[arg-type]


def timed(work: Callable[[], None], device: torch.device) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def main(device: torch.device) -> None:
    """Time the parts of an iteration on `device` and write the table."""
    iterations = {case.system: Iteration(case, device) for case in CASES}
    samples: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for repeat in range(REPEATS + 1):
        for name, iteration in iterations.items():
            for part, work in iteration.parts().items():
                result = timed(work, device)
                if repeat:  # the first warms up
                    samples.setdefault((name, part), []).append(result)
    rows = []
    for case in CASES:
        name, parts = case.system, iterations[case.system].parts()
        walls = [statistics.median(wall for wall, _ in samples[name, part]) for part in parts]
        cpus = [statistics.median(cpu for _, cpu in samples[name, part]) for part in parts]
        peer = PEER[name] if device.type == "cpu" else None
        ratio = f"{sum(walls) / peer[0]:.2f} / {sum(cpus) / peer[1]:.2f}" if peer else ""
        numbers = [f"{x:.3f}" for x in (*walls, sum(walls), sum(cpus))]
        rows.append((name, case.walkers, *numbers, f"{peer[0]} / {peer[1]}" if peer else "", ratio))
    notes = (
        f"4 x (256, 32) network, 16 determinants, 10 Metropolis moves, SPRING, float32, "
        f"{torch.get_num_threads()} threads; {machine()}, torch {torch.__version__}, {device}. Seconds, medians of "
        f"{REPEATS}. The peer is the JAX original with KFAC and its fastest Laplacian, measured earlier on an idle "
        "machine of this kind (not in this run), after 20-30 s of compilation that fusion does not have."
    )
    columns = (
        "system",
        "walkers",
        "sampling",
        "local energy",
        "optimiser",
        "wall",
        "CPU",
        "peer wall / CPU",
        "ratio wall / CPU",
    )
    name = "vmc_speed.md" if device.type == "cpu" else f"vmc_speed_{device.type}.md"
    write_table(Path(__file__).with_name(name), "Speed of one optimisation iteration", notes, columns, rows)


def compare(python: str, cases: Sequence[Case], repeats: int, iterations: int, threads: int) -> None:
    """Measure complete iterations of fusion and of the original in turn and write the table.

    Args:
        python: interpreter that can import the original.
        cases: what to compare, one after another.
        repeats: blocks of each program.
        iterations: iterations in a block.
        threads: number of cores that both programs share, and of threads of each.
    """
    load, original = os.getloadavg()[0], versions(python)
    if hasattr(os, "sched_setaffinity"):  # the workers inherit it; XLA starts a thread per core that it may use
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    environment = {"OMP_NUM_THREADS": str(threads)}
    rows = []
    for case in cases:
        rows.append(comparison(case, python, repeats, iterations, environment))
        print(*rows[-1], flush=True)
    notes = (
        f"Complete iterations of fusion (SPRING) and of the JAX original (KFAC, forward Laplacian), {MOVES} Metropolis "
        "moves of all walkers each; networks of the same size (4 x (256, 32); Psiformer 4 layers of 4 heads of 64), 16 "
        f"determinants, float32, without pretraining. The programs, each with {threads} threads on the same cores, "
        f"compute blocks of {iterations} iterations in turn. Seconds per iteration, medians of {repeats} blocks; a "
        "ratio is the median of the ratios of neighbouring blocks, with their range. Start: seconds until the first "
        f"block, with imports, compilation, 100 moves and three iterations. {machine()}, torch {torch.__version__}; "
        f"original: {original}. Load average at the start {load:.1f}.\n\n"
        "Psiformer multiplies matrices of its width for most of the time, 71 % of that of the Laplacian, at 57 GFlop/s "
        "on one core: 1 GFlop for each walker of CH4, which the original has to multiply as well."
    )
    first = ("network", "system", "walkers", "wall", "CPU", "wall of the original", "CPU of the original")
    columns = (*first, "ratio of wall times", "ratio of CPU times", "start", "start of the original")
    write_table(Path(__file__).with_name("vmc_speed_peer.md"), "Speed beside the JAX original", notes, columns, rows)


def comparison(case: Case, python: str, repeats: int, iterations: int, environment: Mapping[str, str]) -> list[str]:
    """Table row of one case."""
    system, folder = built_in(case.system.lower()), Path(__file__).parent
    molecule = {"symbols": system.symbols, "positions": system.positions.tolist()}
    peer = {**molecule, "electrons": (system.n_up, system.n_down), "network": case.network, "walkers": case.walkers}
    commands = (
        [sys.executable, str(folder / "vmc_speed_fusion.py"), case.network, case.system, str(case.walkers)],
        [python, str(folder / "vmc_speed_peer.py"), json.dumps(peer)],
    )
    with closing(Worker(commands[0], environment)) as ours, closing(Worker(commands[1], environment)) as theirs:
        measured: dict[Worker, list[Block]] = {ours: [], theirs: []}
        for repeat in range(repeats):
            for worker in (ours, theirs) if repeat % 2 == 0 else (theirs, ours):
                measured[worker].append(worker.block(iterations))
    seconds = [
        f"{statistics.median(getattr(block, clock) for block in blocks):.3f}"
        for blocks in measured.values()
        for clock in ("wall", "cpu")
    ]
    pairs = list(zip(measured[ours], measured[theirs], strict=True))
    ratios = [_spread([getattr(a, clock) / getattr(b, clock) for a, b in pairs]) for clock in ("wall", "cpu")]
    starts = [f"{worker.start:.0f}" for worker in measured]
    return [case.network, case.system, str(case.walkers), *seconds, *ratios, *starts]


def versions(python: str) -> str:
    """Versions of Python, JAX and the packages that decide the speed of the original."""
    packages = ("ferminet", "jax", "kfac-jax", "folx")
    program = (
        "import importlib.metadata, platform; print('Python ' + platform.python_version(), "
        f"*(f'{{name}} {{importlib.metadata.version(name)}}' for name in {packages}), sep=', ')"
    )
    return subprocess.run([python, "-c", program], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peer", help="interpreter that can import the original; compares on the CPU")
    parser.add_argument("--only", help="compare only cases whose network or system has this name")
    parser.add_argument("--blocks", type=int, default=9, help="blocks of each program in a comparison")
    parser.add_argument("--iterations", type=int, default=3, help="iterations of a block")
    parser.add_argument("--threads", type=int, default=2, help="threads of each program in a comparison")
    arguments = parser.parse_args()
    if arguments.peer is None:
        main(torch.device(arguments.device))
    else:
        chosen = [case for case in COMPARED if arguments.only in (None, case.network, case.system)]
        if not chosen:
            parser.error(f"--only: no case has the network or the system {arguments.only}")
        compare(arguments.peer, chosen, arguments.blocks, arguments.iterations, arguments.threads)
