"""Seconds per optimisation iteration of the published FermiNet, split into its parts.

`python benchmarks/vmc_speed.py [--device cuda]`; writes vmc_speed.md (vmc_speed_cuda.md on a GPU). Network
4 x (256, 32), 16 determinants, 10 Metropolis moves, SPRING, float32; medians over repeats, the systems take
turns, so that other work on the machine affects them equally.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from fusion.chemistry import system_input
from fusion.chemistry.system import System
from fusion.wavefunctions.clipping import clip
from fusion.wavefunctions.hamiltonians import molecular
from fusion.wavefunctions.optimisers import Constant
from fusion.wavefunctions.optimisers.spring import Spring
from fusion.wavefunctions.resources import default_chunk
from fusion.wavefunctions.sampler import Metropolis, initial_electrons
from fusion_ferminet.network import FermiNet
from runs import machine, write_table

CASES = {"LiH": ("lih", 512), "CH4": ("ch4", 128), "N2": ("n2", 128)}
PEER = {"LiH": (0.79, 1.45), "CH4": (0.91, 1.7), "N2": (1.53, 2.85)}  # JAX original, KFAC, fastest Laplacian; see notes
REPEATS = 7


class Iteration:
    """Optimisation iteration of one system, in parts that can be timed."""

    def __init__(self, system: System, walkers: int, device: torch.device) -> None:
        torch.manual_seed(0)
        self.ansatz = FermiNet(system).to(device)
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
        self.sampler.run(lambda electrons: 2 * self.ansatz(electrons)[1], 10)

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
    iterations = {name: Iteration(built_in(file), walkers, device) for name, (file, walkers) in CASES.items()}
    samples: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for repeat in range(REPEATS + 1):
        for name, iteration in iterations.items():
            for part, work in iteration.parts().items():
                result = timed(work, device)
                if repeat:  # the first warms up
                    samples.setdefault((name, part), []).append(result)
    rows = []
    for name, iteration in iterations.items():
        walls = [statistics.median(wall for wall, _ in samples[name, part]) for part in iteration.parts()]
        cpus = [statistics.median(cpu for _, cpu in samples[name, part]) for part in iteration.parts()]
        peer = PEER[name] if device.type == "cpu" else None
        ratio = f"{sum(walls) / peer[0]:.2f} / {sum(cpus) / peer[1]:.2f}" if peer else ""
        numbers = [f"{x:.3f}" for x in (*walls, sum(walls), sum(cpus))]
        rows.append((name, CASES[name][1], *numbers, f"{peer[0]} / {peer[1]}" if peer else "", ratio))
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    main(torch.device(parser.parse_args().device))
