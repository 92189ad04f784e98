"""Card and tensors of a published wavefunction, beyond those of other models: its system, walkers and training."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.errors import InputError
from fusion.zoo.card import WALKERS, Nuclei, Training

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor

MOST = 256
"""Largest number of published walkers; a run with more repeats them, and its burn-in separates the copies."""

_TASKS = ("train", "evaluate")


def nuclei(config: DictConfig) -> Nuclei:
    """Return the system of the run `config`.

    Raises InputError for one that a card cannot describe, and for a task whose energy is not that of the wavefunction.
    """
    from fusion.chemistry import core_potentials, system_input
    from fusion.config import compose as trees

    if config.task.name not in _TASKS:
        raise InputError(f"task={config.task.name} is not published: publish the run of task=train or task=evaluate")
    standard = trees.compose([f"+method={config.method.name}"])[0].method
    if config.method.get("hamiltonian", standard.hamiltonian) != standard.hamiltonian:
        raise InputError("a wavefunction of another Hamiltonian than that of the molecule cannot be published")
    system = system_input.read(config.system, Path.cwd())
    if system.cell is not None:
        raise InputError("a wavefunction of a periodic system cannot be published")
    for core in system.cores:
        if core_potentials.is_file(core.name):
            raise InputError(f"a wavefunction with the core potential of a file cannot be published: {core.name}")
    positions = tuple((float(x), float(y), float(z)) for x, y, z in system.positions)
    ecp = {core.symbol: core.name for core in system.cores}
    name = re.sub(r"[^A-Za-z0-9_+-]+|^[+-]", "_", system.name)
    return Nuclei(system.symbols, positions, system.charge, system.spin, name, ecp)


def tensors(parameters: Mapping[str, Tensor], checkpoint: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """Return the tensors of the file: parameters and walkers (W, N, 3), bohr, in single precision.

    Raises InputError for a checkpoint without walkers; `source` names it.
    """
    import torch

    walkers = (checkpoint.get("vmc") or {}).get("electrons")
    if not isinstance(walkers, torch.Tensor):
        raise InputError(f"{source} has no walkers: a wavefunction is published from a checkpoint of its run")
    both = {**parameters, WALKERS: walkers[:MOST]}
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in both.items()}


def training(stated: Training, document: Mapping[str, Any]) -> Training:
    """Add the length of the optimisation and the seed, from the result of the run, to the description of its data."""
    vmc = document.get("vmc") or {}
    steps, walkers = vmc.get("optimisation", {}).get("iterations"), vmc.get("evaluation", {}).get("walkers")
    if steps is None:
        return stated
    return replace(stated, data=f"{stated.data}; {steps} steps of {walkers} walkers, seed {document.get('seed')}")
