"""Milliseconds of ANI-2x energies and forces, by fusion and by torchani in every mode it has, on the same weights.

`tools/bench ani_speed [--device cuda]` writes ani_speed.md (ani_speed_cuda.md on a GPU), in an environment with
torchani; without it there is only fusion's column. float32; all competitors in turn, the fastest of many
calls each. With one thread, processor time is measured, which other work on the machine does not affect. torchani's
inference container calls NVTX, which fails without CUDA: there these calls are replaced by empty ones.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ase.build
import numpy as np
import torch
from ase import Atoms
from ase.collections import g2
from ase.data import atomic_masses

import fusion
from fusion.chemistry.structures import from_atoms
from fusion.chemistry.system import System
from fusion.chemistry.units import ANGSTROM_PER_BOHR
from fusion.errors import CalculationError, InputError
from fusion.potentials import Batch, PotentialMethod, collate
from fusion.potentials.derivatives import evaluate
from fusion_ani.network import ANI
from runs import machine, write_table

ELEMENTS = {"H", "C", "N", "O", "S", "F", "Cl"}
SECONDS = 0.35  # per competitor and case
REPEATS, BURST = 100, 10
Work = Callable[[], Any]


def structures() -> Iterator[tuple[str, list[Atoms]]]:
    """Structures to compute: single molecules and droplets, and batches of small molecules."""
    yield "benzene", [ase.build.molecule("C6H6")]
    yield "chain", [glycines(7)]
    yield "droplet", [droplet(304)]
    yield "droplet", [droplet(973)]
    yield "droplet", [droplet(3410)]
    yield "256 molecules", small_molecules(256)
    yield "2560 molecules", small_molecules(2560)


def glycines(residues: int) -> Atoms:
    """Chain of `residues` glycines like a stretched peptide, 7 atoms each, and the three of water at the ends."""
    backbone = np.array([[0.0, 0.0, 0.0], [1.46, 0.0, 0.0], [2.0, 1.42, 0.0], [1.22, 2.37, 0.0]])
    atoms = Atoms()
    for residue in range(residues):
        flip = np.array([1.0, 1.0 if residue % 2 == 0 else -1.0, 1.0])
        start = np.array([3.33 * residue, 0.0 if residue % 2 == 0 else 1.42, 0.0])
        hydrogens = np.array([[-0.4, -0.95, 0.0], [1.82, -0.54, 0.9], [1.82, -0.54, -0.9]])
        atoms += Atoms("NCCOHHH", np.concatenate([backbone, hydrogens]) * flip + start)
    last = atoms.positions[-5]
    sign = 1.0 if residues % 2 else -1.0
    ends = np.array([[1.3, 0.3 * sign, 0.0], [1.9, -0.4 * sign, 0.0]]) + last
    return atoms + Atoms("OHH", [*ends, [-0.4, 0.6, 0.8]])


def droplet(size: int) -> Atoms:
    """About `size` atoms of water, methanol, formamide and methanethiol at the density of water, in a ball."""
    names, random = ["H2O", "CH3OH", "HCONH2", "CH3SH"], np.random.default_rng(0)
    molecules = [ase.build.molecule(name) for name in names if name in g2.names]
    mean = sum(len(molecule) for molecule in molecules) / len(molecules)
    mass = sum(atomic_masses[molecule.numbers].sum() for molecule in molecules) / len(molecules)
    spacing = (mass / 0.6022 / 0.9) ** (1 / 3)
    edge = int(np.ceil((2.5 * size / mean) ** (1 / 3))) + 1
    grid = spacing * (np.stack(np.meshgrid(*[np.arange(edge)] * 3), axis=-1).reshape(-1, 3) - 0.5 * (edge - 1))
    atoms = Atoms()
    for site in grid[np.argsort(np.linalg.norm(grid, axis=1), kind="stable")]:
        molecule = molecules[random.integers(len(molecules))].copy()
        molecule.translate(-molecule.positions.mean(axis=0))
        molecule.euler_rotate(*random.uniform(0.0, 360.0, 3))
        molecule.translate(site)
        atoms += molecule
        if len(atoms) >= size - 2:
            break
    return atoms


def small_molecules(count: int) -> list[Atoms]:
    """Slightly displaced molecules of G2, about 10 atoms each."""
    random = np.random.default_rng(0)
    names = [name for name in g2.names if 8 <= len(g2[name]) <= 14 and set(g2[name].get_chemical_symbols()) <= ELEMENTS]
    names = [name for name in names if g2[name].numbers.sum() % 2 == 0]
    molecules = [g2[names[index % len(names)]].copy() for index in range(count)]
    for molecule in molecules:
        molecule.positions += random.normal(scale=0.05, size=molecule.positions.shape)
    return molecules


def ani_2x() -> tuple[ANI, str]:
    """ANI-2x with its weights or, if they are unavailable, with random ones, which cost the same."""
    try:
        model = fusion.load("ani-2x")
        assert isinstance(model, ANI)
        return model.float(), "published weights"
    except (AttributeError, CalculationError, InputError) as error:
        print(f"random weights: {error}")
        from hydra.utils import instantiate
        from omegaconf import OmegaConf

        import fusion_ani

        config = OmegaConf.load(Path(fusion_ani.__file__).parent / "conf" / "method" / "ani.yaml")
        torch.manual_seed(0)
        built: ANI = instantiate(config.method.model)
        return built.float().eval().requires_grad_(False), "random weights"


def ours(model: ANI, systems: list[System], batch: Batch, forces: bool) -> dict[str, Work]:
    """Timed calls of fusion: the model on a batch, and everything from systems to results."""
    wanted = {"energy", "forces"} if forces else {"energy"}
    device = str(batch.positions.device)
    method = PotentialMethod("ani", model, dtype="float32", device=device, batch_size=len(systems))

    def on_batch() -> float:
        with torch.no_grad():
            prediction, derivatives = evaluate(model, batch, wanted)
            if forces:
                derivatives["forces"].cpu()
            return float(prediction.energy.sum().detach())

    return {"fusion": on_batch, "fusion, Results": lambda: method.calculate(systems, wanted)}


class Peer:
    """torchani with the weights of a fusion model, self energies zero.

    Of its neighbour lists "adaptive" is the best for single structures, "all_pairs" the only one for batches.
    """

    def __init__(self, model: ANI, device: torch.device, neighbours: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torchani.arch import Assembler
        if device.type == "cpu":
            for name in ("mark", "range_push", "range_pop"):
                setattr(torch.cuda.nvtx, name, lambda *_: None)
        assembler = Assembler(periodic_table_index=True)
        assembler.set_symbols(model.elements)
        assembler.set_global_cutoff_fn("cosine")
        strategy = "auto" if device.type == "cuda" else "pyaev"
        assembler.set_aev_computer(radial="ani2x", angular="ani2x", strategy=strategy)
        assembler.set_atomic_networks(ctor="ani2x")
        assembler.set_neighborlist(neighbours)
        assembler.set_zeros_as_self_energies()
        self.ensemble = assembler.assemble(8)
        state = self.ensemble.state_dict()
        for element, networks in model.networks.items():
            for layer, (weight, bias) in enumerate(zip(networks.weights, networks.biases, strict=True)):
                name = "final_layer" if layer == len(networks.weights) - 1 else f"layers.{layer}"
                for member in range(len(weight)):
                    prefix = f"potentials.nnp.neural_networks.members.{member}.atomics.{element}.{name}"
                    state[f"{prefix}.weight"], state[f"{prefix}.bias"] = weight[member], bias[member]
        self.ensemble.load_state_dict(state)
        self.ensemble = self.ensemble.to(device).eval().requires_grad_(False)
        self.device = device

    def modes(self, members: int, alone: bool) -> dict[str, Any]:
        """torchani's models by mode: as built, inference container (no batches), both as TorchScript if that works."""
        import copy

        models = {"eager": self.ensemble if members > 1 else self.ensemble[0]}
        if members > 1 and alone:
            models["batched"] = copy.deepcopy(self.ensemble).to_infer_model()
        for name, model in list(models.items()):
            try:
                models[f"{name}, TorchScript"] = torch.jit.script(model)
            except Exception as error:
                print(f"torchani has no TorchScript mode of {name}: {str(error).strip().splitlines()[0]}")
        return models


def peer_work(model: Any, batch: Batch, forces: bool) -> Work:
    """One call of a torchani model."""
    species = torch.where(batch.mask, batch.numbers, -1)
    coordinates = (batch.positions * ANGSTROM_PER_BOHR).contiguous()

    def compute() -> float:
        positions = coordinates.clone().requires_grad_(forces)
        with torch.set_grad_enabled(forces):
            energy = model((species, positions)).energies.sum()
            if forces:
                (-torch.autograd.grad(energy, positions)[0]).cpu()
        return float(energy.detach())

    return compute


def measure(works: dict[str, Work], threads: int) -> dict[str, float]:
    """Least milliseconds, processor time for one thread. A few calls in turn keep the caches of one competitor."""
    for work in works.values():
        for _ in range(3):
            work()
    clock = time.process_time if threads == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in works}
    began = clock()
    while len(times["fusion"]) < 3 or (clock() - began < SECONDS * len(works) and len(times["fusion"]) < REPEATS):
        for name, work in works.items():
            turn = clock()
            for _ in range(BURST):
                start = clock()
                work()
                times[name].append(1e3 * (clock() - start))
                if clock() - turn > 0.1:
                    break
    return {name: min(values) for name, values in times.items()}


def row(
    threads: int, name: str, atoms: list[Atoms], members: int, forces: bool, seconds: dict[str, float]
) -> list[str]:
    """One line of the table; the peer's best mode is named."""
    cells = [str(threads), name, str(sum(map(len, atoms))), str(members), "energy, forces" if forces else "energy"]
    cells += [f"{seconds.pop('fusion'):.2f}", f"{seconds.pop('fusion, Results'):.2f}"]
    if not seconds:
        return [*cells, "", "", ""]
    best = min(seconds, key=lambda mode: seconds[mode])
    return [*cells, f"{seconds[best]:.2f}", best, f"{seconds[best] / float(cells[5]):.1f}"]


def main() -> None:
    """Time every case and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    ensemble, weights = ani_2x()
    models = {1: ensemble.member(0).to(device).requires_grad_(False), 8: ensemble.to(device)}
    try:
        peers = {alone: Peer(ensemble, device, "adaptive" if alone else "all_pairs") for alone in (True, False)}
        modes = {(alone, members): peer.modes(members, alone) for alone, peer in peers.items() for members in models}
    except ImportError as error:
        print(f"torchani is not there, fusion only: {error}")
        modes = {}
    lines = []
    for name, atoms in structures():
        systems = [from_atoms(each, name="x") for each in atoms]
        batch = collate(systems, torch.float32).to(device)
        for threads in arguments.threads if device.type == "cpu" else [torch.get_num_threads()]:
            torch.set_num_threads(threads)
            for members, model in models.items():
                for forces in (False, True):
                    works = ours(model, systems, batch, forces)
                    for mode, other in modes.get((len(atoms) == 1, members), {}).items():
                        works[mode] = peer_work(other, batch, forces)
                    lines.append(row(threads, name, atoms, members, forces, measure(works, threads)))
                    print(*lines[-1], sep=" | ", flush=True)
    note = f"ANI-2x, {weights}, float32, {machine('torch', 'torchani')}, {device}. Milliseconds per call, fastest of "
    note += "calls in turn, for one thread of the processor; "
    note += f"load average of the last quarter of an hour {os.getloadavg()[2]:.1f}."
    header = ["threads", "what", "atoms", "members", "computed", "fusion", "fusion, with Results"]
    header += ["torchani, best mode", "which", "ratio"]
    path = Path(__file__).with_name("ani_speed.md" if device.type == "cpu" else f"ani_speed_{device.type}.md")
    write_table(path, "Speed of ANI-2x", note, header, lines)


if __name__ == "__main__":
    main()
