"""Damaged files of every kind that the core reads are read, or refused in one line within seconds, without writing."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from omegaconf import OmegaConf

from fusion import app, datasets
from fusion.app import run_result
from fusion.chemistry.structure_files import read_file
from fusion.datasets.naming import absolute, node
from fusion.errors import InputError
from fusion.runs import checkpoints, report, results
from fusion.runs import state as task_state
from fusion.runs.layout import CHECKPOINT
from fusion.runs.run import Run
from fusion.zoo import card_file
from fuzzing import Files, fuzzed

CARD = """
schema = 1
name = "pair"
version = 1
kind = "potential"
method = "ani"
summary = "pairs"
licence = "MIT"
citation = "A. Nobody, J. Null 1, 1 (2026)"
energy_zero = "total"
training = {data = "none", level_of_theory = "none"}
domain = {elements = ["H", "O"], charges = [0], spins = [0], spread = 0.1}
model = {target = "tiny.model.Pair", arguments = {elements = ["H", "O"], hidden = {H = [4, 2]}}}
weights = {sha256 = "%s", size = 636}
metrics = [{name = "error", value = 1.5, unit = "kcal/mol", command = "x"}]
files = {"pair.safetensors" = {size = 636, sha256 = "%s"}}
system = {symbols = ["H", "O"], positions_bohr = [[0.0, 0.0, 0.0], [0.0, 0.0, 1.8]], charge = 0, spin = 1}
""" % ("0" * 64, "1" * 64)  # noqa: UP031
RESULT = {
    "schema": 1, "versions": {"fusion": "1"}, "method": "hf", "kind": "conventional", "weights": None,
    "settings": {"basis": "sto-3g"}, "task": "energy", "status": "ok", "seed": 0,
    "system": {"name": "h2", "formula": "H2", "symbols": ["H", "H"], "charge": 0, "spin": 0},
    "energy": {"value": -1.117, "stderr": None}, "timing": {"wall_s": 1.5},
    "reference": {"value": -1.17, "source": "x"},
}  # fmt: skip
CONFIG = {
    "method": {"_target_": "fusion_conventional.mean_field.HartreeFock", "name": "hf", "basis": "sto-3g"},
    "task": {"_target_": "fusion.tasks.energy.Energy", "name": "energy"}, "trainer": {"threads": None},
    "system": {"atoms": "H 0 0 0; H 0 0 0.74"}, "seed": 0, "dtype": "float64", "ckpt": None,
}  # fmt: skip


def frames() -> list[Atoms]:
    many = []
    for length in (0.7, 0.8):
        atoms = Atoms("H2", [[0, 0, 0], [0, 0, length]], cell=[5.0, 5.0, 5.0], pbc=True)
        atoms.calc = SinglePointCalculator(atoms, energy=-31.0, forces=np.zeros((2, 3)))
        many.append(atoms)
    return many


def written(name: str, save: Callable[[Path], object]) -> Callable[[], Files]:
    """Return the contents of the file `name` that `save` writes."""

    def make() -> Files:
        with tempfile.TemporaryDirectory() as directory:
            save(Path(directory) / name)
            return {name: (Path(directory) / name).read_bytes()}

    return make


def save_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name in ("m1", "m2"):
            positions = np.random.default_rng(1).normal(size=(3, 2, 3))
            file[f"{name}/species"], file[f"{name}/coordinates"] = [b"H", b"H"], positions
            file.create_dataset(f"{name}/energies", data=[-1.0, -1.1, -1.2], chunks=(2,), compression="gzip")


def save_npz(path: Path) -> None:
    positions = np.random.default_rng(1).normal(size=(3, 2, 3))
    np.savez_compressed(path, R=positions, Z=np.array([1, 1]), E=np.array([-1.0, -1.1, -1.2]))


def save_torch(path: Path) -> None:
    torch.save({"vmc": {"step": 3, "walkers": torch.zeros(2, 3)}, "state_dict": {"a": torch.ones(2)}}, path)


@cache
def settings(name: str) -> dict[str, Any]:
    return node({"data": name, "energy_unit": "eV", "check": False})


def structures(name: str) -> Callable[[Path], object]:
    """Read the file `name` as a system and as data."""

    def read(directory: Path) -> None:
        with suppress(InputError):
            read_file(name, 0, directory)
        datasets.load(absolute(deepcopy(settings(name)), directory), directory)

    return read


def state(directory: Path) -> object:
    run = Run(directory, OmegaConf.create({}), directory / CHECKPOINT, 0, directory)
    return task_state.read_state(run, "md")


def save_state() -> Files:
    with tempfile.TemporaryDirectory() as name:
        run = Run(Path(name), OmegaConf.create({}), None, 0, Path(name))
        task_state.write_state(run, {"task": "md", "step": 3, "frames": [{"positions": np.zeros((2, 3))}]})
        return {str(CHECKPOINT): (Path(name) / CHECKPOINT).read_bytes()}


def save_run() -> Files:
    metrics = b"step,energy_hartree\n1,-1.0\n2,-1.1\n"
    config = OmegaConf.to_yaml(OmegaConf.create(CONFIG)).encode()
    return {"config.yaml": config, "result.json": json.dumps(RESULT, indent=2).encode(), "metrics.csv": metrics}


def run_directory(directory: Path) -> None:
    for read in (app.load_config, results.read_result, run_result.result):
        with suppress(InputError):
            read(directory)
    report.report(directory)


READERS: dict[str, tuple[Callable[[], Files], Callable[[Path], object]]] = {
    "extended xyz": (written("d.xyz", lambda path: write(path, frames())), structures("d.xyz")),
    "plain xyz": (lambda: {"d.xyz": b"2\n-1.0\nH 0 0 0\nH 0 0 0.7\n" * 2}, structures("d.xyz")),
    "trajectory": (written("d.traj", lambda path: write(path, frames())), structures("d.traj")),
    "json database": (written("d.json", lambda path: write(path, frames())), structures("d.json")),
    "POSCAR": (
        written("POSCAR", lambda path: write(path, molecule("H2O", vacuum=3))),
        lambda path: read_file("POSCAR", 0, path),
    ),
    "hdf5": (written("d.h5", save_hdf5), structures("d.h5")),
    "npz": (written("d.npz", save_npz), structures("d.npz")),
    "card": (lambda: {"c.toml": CARD.encode()}, lambda directory: card_file.read(directory / "c.toml")),
    "state of a task": (save_state, state),
    "checkpoint of a training": (written("a.ckpt", save_torch), lambda path: checkpoints.read(path / "a.ckpt")),
    "run directory": (save_run, run_directory),
}


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(name: str) -> None:
    fuzzed(*READERS[name])
