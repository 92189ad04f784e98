"""Microseconds per grid point of DM21's network and its derivatives: hand-written and by autograd, float32 and float64.

`python benchmarks/dm21_network.py`; writes dm21_network.md. The points are the grid of water with its B3LYP density,
in blocks as in a calculation; all competitors take turns, so that other work on the machine affects them equally.
Errors are against autograd in float64. Needs the weights of dm21 (`fusion zoo pull dm21`).
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyscf import dft, gto
from torch import Tensor

import fusion
from fusion.functionals import DensityFeatures
from fusion.functionals.features import joined
from fusion.functionals.grid.numint import LearnedNumInt
from runs import machine, write_table

WATER = "O 0 0 0.117; H 0 0.757 -0.469; H 0 -0.757 -0.469"
BLOCK = 4096
ROUNDS = 7
Found = tuple[Tensor, DensityFeatures]


def water() -> tuple[DensityFeatures, Tensor]:
    """Features of the occupied points of a grid and the points' weights."""
    mol = gto.M(atom=WATER, basis="def2-svp", verbose=0)
    mean_field = dft.RKS(mol, xc="b3lyp").run()
    numint = LearnedNumInt(fusion.load("dm21").double())
    matrices = np.asarray(mean_field.make_rdm1())[None] / 2
    blocks = [(numint.density(mol, block, matrices), block.weights) for block in numint.blocks(mol, mean_field.grids)]
    features, weights = (
        joined([density.features for density, _ in blocks]),
        np.concatenate([part for _, part in blocks]),
    )
    occupied = features.rho.sum(dim=0) > 1e-14
    return features.at(occupied), torch.from_numpy(weights)[occupied]


def in_blocks(evaluate: Callable[[DensityFeatures], Found], features: DensityFeatures) -> Iterator[Found]:
    """Evaluate the whole grid in blocks."""
    points = len(features.rho[0])
    for start, stop in pairwise([*range(0, points, BLOCK), points]):
        yield evaluate(features.at(slice(start, stop)))


def by_autograd(model: Any, features: DensityFeatures) -> Found:
    """Derivatives as for a functional without its own derivatives."""
    variables = [tensor.detach().requires_grad_() for tensor in features.variables()]
    energy = model.energy_density(features.with_variables(variables))
    return energy.detach(), features.with_variables(torch.autograd.grad(energy.sum(), variables))


def competitors(features: DensityFeatures) -> dict[tuple[str, str], Callable[[], list[Found]]]:
    """Competitors by path and precision."""
    evaluations: dict[tuple[str, str], Callable[[], list[Found]]] = {}
    for dtype in (torch.float32, torch.float64):
        model, shown = fusion.load("dm21").to(dtype).requires_grad_(False), features.map(lambda x, to=dtype: x.to(to))
        ways = {"autograd": lambda part, model=model: by_autograd(model, part), "by hand": model.derivatives}
        for way, evaluate in ways.items():
            evaluations[way, str(dtype).removeprefix("torch.")] = lambda e=evaluate, f=shown: list(in_blocks(e, f))
    return evaluations


def errors(parts_computed: list[Found], exact: list[Found], weights: Tensor) -> list[str]:
    """Error of the energy in microhartree, and largest error of the derivatives over the largest derivative."""
    energies, expected = (torch.cat([energy.double() for energy, _ in parts]) for parts in (parts_computed, exact))
    one, other = (joined([features for _, features in parts]).variables() for parts in (parts_computed, exact))
    worst = max(float((a.double() - b).abs().max() / b.abs().max()) for a, b in zip(one, other, strict=True))
    return [f"{1e6 * float(weights @ (energies - expected)):.4f}", f"{worst:.0e}"]


def main() -> None:
    """Measure and write the table."""
    features, weights = water()
    points = len(weights)
    work = competitors(features)
    torch.set_num_threads(1)
    results = {name: call() for name, call in work.items()}  # compiles, too
    exact = results["autograd", "float64"]
    rows = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        wall: dict[tuple[str, str], list[float]] = {name: [] for name in work}
        processor: dict[tuple[str, str], list[float]] = {name: [] for name in work}
        for _ in range(ROUNDS):
            for name, call in work.items():
                began, used = time.perf_counter(), time.process_time()
                call()
                wall[name].append((time.perf_counter() - began) * 1e6 / points)
                processor[name].append((time.process_time() - used) * 1e6 / points)
        for way, dtype in work:
            name = (way, dtype)
            middle, of_autograd = statistics.median(wall[name]), statistics.median(wall["autograd", dtype])
            times = [f"{middle:.1f}", f"{min(wall[name]):.1f}", f"{statistics.median(processor[name]):.1f}"]
            ratio = "" if way == "autograd" else f"{of_autograd / middle:.1f}"
            rows.append([threads, way, dtype, *times, ratio, *errors(results[name], exact, weights)])
    notes = (
        f"DM21, published weights, {points} points of water (def2-SVP, grid level 3, density of B3LYP) in blocks of "
        f"{BLOCK}; {machine()}, torch {torch.__version__}, load average {os.getloadavg()[0]:.1f} during the run. "
        f"Microseconds per point for energy density and all derivatives, medians of {ROUNDS} calls in turn; the "
        "processor's time adds up over threads; on a busy machine it is what compares, as torch's threads wait for "
        "each other there. The error of the energy is in microhartree of the whole molecule, that of the derivatives "
        "is the largest over the largest derivative of its kind."
    )
    columns = ["threads", "how", "precision", "wall", "fastest", "processor", "times faster", "energy", "derivatives"]
    write_table(Path(__file__).with_suffix(".md"), "DM21's network", notes, columns, rows)


if __name__ == "__main__":
    main()
