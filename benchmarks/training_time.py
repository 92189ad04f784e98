"""CPU seconds until the forces on validation conformations reach a given error, in fusion and in torchani.

`tools/bench training_time NPZ`, with 1,000 labelled conformations of ethanol (rMD17, split 1); writes
training_time.md. The network of ANI-1x, one member, float32, one thread; both begin with the same weights, see the same
batches in the same order and step by Adam at one rate. Kernels are compiled before. The competitors take turns in one
process; the processor time of the steps counts, without validations. torchani has
its plain training loop as in ani_training_speed.py.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate

from ani_training_speed import ANI_1X, Work, ours, peer, theirs
from fusion import datasets
from fusion.chemistry import units
from fusion.config import compose
from fusion.datasets import Labelled
from fusion.datasets.naming import node
from fusion.potentials.batch import batch_of
from fusion.potentials.training.loss import Weights
from fusion_ani.network import ANI
from runs import machine, write_table

BATCH, CHUNK, MOST = 32, 25, 4000
LEVELS = (200.0, 150.0, 100.0, 75.0)  # meV/Angstrom
WEIGHTS = Weights(0.1, 1.0, 0.0)
Check = Callable[[], np.ndarray]


def same_weights(model: ANI, other: Any) -> None:
    """Copy the weights of fusion's model to torchani's."""
    parameters = dict(other.named_parameters())
    for element in model.elements:
        networks: Any = model.networks[element]
        for layer, (weight, bias) in enumerate(zip(networks.weights, networks.biases, strict=True)):
            last = layer == len(networks.weights) - 1
            key = f"atomics.{element}.{'final_layer' if last else f'layers.{layer}'}."
            (start,) = {name.split("atomics.")[0] for name in parameters if key in name}
            parameters[f"{start}{key}weight"].data.copy_(weight[0])
            parameters[f"{start}{key}bias"].data.copy_(bias[0])


def our_forces(model: ANI, data: Labelled) -> Check:
    """Forces (N, 3) of fusion's model, hartree/bohr."""
    passes = model.passes(data, 1.0)

    def prediction() -> np.ndarray:
        with torch.no_grad():
            forces = passes(np.arange(len(data)), True, False, False)[0].forces
        assert forces is not None
        values: np.ndarray = forces[0].numpy().copy()
        return values

    return prediction


def their_forces(model: Any, data: Labelled) -> Check:
    """Forces (N, 3) of torchani's model, hartree/bohr."""
    whole = batch_of(data, np.arange(len(data)), torch.float32)
    species = torch.where(whole.mask, whole.numbers, -1)

    def prediction() -> np.ndarray:
        positions = (whole.positions * units.ANGSTROM_PER_BOHR).requires_grad_()
        (slope,) = torch.autograd.grad(model((species, positions)).energies.sum(), positions)
        values: np.ndarray = -units.ANGSTROM_PER_BOHR * slope[whole.mask].numpy()
        return values

    return prediction


def race(works: dict[str, tuple[Work, Check]], label: np.ndarray) -> dict[str, list[tuple[int, float, float]]]:
    """(steps, CPU seconds, mean absolute error in meV/Angstrom) of each competitor, until it is below all levels."""
    curves: dict[str, list[tuple[int, float, float]]] = {}
    for name, (_, check) in works.items():
        curves[name] = [(0, 0.0, error(check(), label))]
        print(name, f"{curves[name][0][2]:.3f} meV/Angstrom before the first step", flush=True)
    for _ in range(MOST // CHUNK):
        for name, (work, check) in works.items():
            steps, seconds, last = curves[name][-1]
            if last < LEVELS[-1]:
                continue
            began = time.process_time()
            for _ in range(CHUNK):
                work()
            seconds += time.process_time() - began
            curves[name].append((steps + CHUNK, seconds, error(check(), label)))
            print(name, *(f"{value:.2f}" for value in curves[name][-1]), flush=True)
    return curves


def error(prediction: np.ndarray, label: np.ndarray) -> float:
    """Mean absolute error of the components, meV/Angstrom."""
    return float(np.abs(prediction - label).mean()) * units.EV_ANGSTROM_PER_HARTREE_BOHR * 1000.0


def main(path: Path) -> None:
    """Train both, and write the table."""
    torch.set_num_threads(1)
    entry = node({"data": "rmd17_ethanol"})
    entry.path = str(path)
    data = datasets.load(entry, Path.cwd())
    data.energy[:] -= data.energy.mean()
    order = np.random.default_rng(1).permutation(len(data))
    validation, training = data.select(order[:200]), data.select(order[200:])
    usual: Any = compose.compose(["+method=ani", "weights=null", "method.model.members=1"])[0].method.model
    torch.manual_seed(0)
    model: ANI = instantiate({**usual, **ANI_1X}).restricted(ANI_1X["elements"])
    other = peer("ani1x")
    same_weights(model, other)
    ours(copy.deepcopy(model), training, BATCH, WEIGHTS)()  # compiles what is compiled once for all
    theirs(copy.deepcopy(other), training, BATCH, WEIGHTS)()
    assert validation.forces is not None
    curves = race(
        {
            "fusion": (ours(model, training, BATCH, WEIGHTS), our_forces(model, validation)),
            "torchani": (theirs(other, training, BATCH, WEIGHTS), their_forces(other, validation)),
        },
        np.asarray(validation.forces),
    )
    rows = []
    for level in LEVELS:
        reached = {name: next((p for p in curve if p[2] < level), None) for name, curve in curves.items()}
        steps = ["" if point is None else str(point[0]) for point in reached.values()]
        seconds = ["" if point is None else f"{point[1]:.1f}" for point in reached.values()]
        us, them = reached["fusion"], reached["torchani"]
        rows.append([f"{level:.0f}", *steps, *seconds, f"{them[1] / us[1]:.1f}" if us and them else ""])
    note = f"{len(training)} conformations of ethanol to learn from, batches of {BATCH}, {len(validation)} to judge; "
    note += f"energies and forces, Adam at 1e-3, {machine('torch', 'torchani')}. The first time that the mean absolute "
    note += f"error of forces, looked at every {CHUNK} steps, is below the level (meV/Angstrom)."
    header = ["error below", "steps: fusion", "torchani", "CPU seconds: fusion", "torchani", "ratio"]
    write_table(Path(__file__).with_suffix(".md"), "Time to a fixed error", note, header, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
