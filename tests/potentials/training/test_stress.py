"""Crystals: the stress is learned, and its errors are reported with the unit and sign of ASE."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write
from test_potential_training_run import ABOUT, SHIFTS

import fusion
from fusion.chemistry.units import EV_ANGSTROM3_PER_HARTREE_BOHR3
from fusion.cli import publish

MEV_ANGSTROM3 = 1000.0


def crystals(path: Path, number: int) -> Path:
    """Write strained and rattled copper by effective medium theory, every fourth without its stress."""
    random, frames = np.random.default_rng(0), []
    for index in range(number):
        atoms: Atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell @ (np.eye(3) + 0.04 * random.normal(size=(3, 3))), scale_atoms=True)
        atoms.rattle(0.05, rng=random)
        atoms.calc = EMT()
        atoms.get_potential_energy()
        if index % 4 != 3:
            atoms.get_stress()
        frames.append(atoms)
    write(path, frames, format="extxyz")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("stress")
    words = [
        *("+method=ani", "weights=null", "task=train", "trainer=cpu", f"data={crystals(place / 'cu.extxyz', 48)}"),
        *("method.model.elements=[Cu]", "+method.model.hidden.Cu=[12,8]", "method.model.members=1", *SHIFTS),
        *("data.split.test=8", "data.split.validation=8", "method.training.epochs=40", "method.training.batch=8"),
        *("method.training.learning_rate=5e-3", "method.training.loss={energy: 1.0, forces: 0.1, stress: 1.0}"),
        *("callbacks.checkpoint.every_n_steps=1000", f"hydra.run.dir={place / 'run'}"),
    ]
    assert fusion.run(words).status == "ok"
    return place / "run"


@pytest.mark.slow
def test_the_stress_is_learned(run: Path) -> None:
    with (run / "metrics.csv").open(newline="") as file:
        errors = [float(row["validation_stress_mae_mev_angstrom3"]) for row in csv.DictReader(file)]
    assert len(errors) == 40 and errors[-1] < 0.5 * errors[0]


@pytest.mark.slow
def test_errors_of_the_stress_agree_with_the_labels(run: Path) -> None:
    parts = json.loads((run / "result.json").read_text())["training"]["parts"]
    assert set(parts["test"]) >= {"stress_mae_mev_angstrom3", "stress_rmse_mev_angstrom3", "energy_mae_kcal_mol"}
    frames: list[Atoms] = read(run.parent / "cu.extxyz", ":")
    known = [atoms.get_stress(voigt=False) for atoms in frames if "stress" in atoms.calc.results]
    with np.load(run / "stress.npz") as arrays:
        label, predicted = (arrays[name] * EV_ANGSTROM3_PER_HARTREE_BOHR3 for name in ("label", "predicted"))
    for one in label:
        assert min(np.abs(one - other).max() for other in known) < 1e-7
    error = MEV_ANGSTROM3 * np.abs(predicted - label).mean()
    assert parts["test"]["stress_mae_mev_angstrom3"] == pytest.approx(error, rel=1e-9)


@pytest.mark.slow
def test_an_evaluation_of_the_published_model_has_the_same_errors(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusion.zoo.registry.user", lambda: tmp_path)
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    publish.add(run, ABOUT, tmp_path)
    words = ["+method=ani", "weights=tiny", "task=evaluate", "task.part=test", f"data={run.parent / 'cu.extxyz'}"]
    split = ["data.split.test=8", "data.split.validation=8", f"hydra.run.dir={tmp_path / 'run'}"]
    assert fusion.run([*words, *split]).status == "ok"
    trained = json.loads((run / "result.json").read_text())["training"]["parts"]["test"]
    evaluated = json.loads((tmp_path / "run" / "result.json").read_text())["evaluation"]["stress"]
    for name in ("mae_mev_angstrom3", "rmse_mev_angstrom3"):
        assert evaluated[name] == pytest.approx(trained[f"stress_{name}"], rel=1e-3)
