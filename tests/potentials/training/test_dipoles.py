"""Charges learned from dipoles: gradients, recovery of known charges, publication, and a spectrum."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import read, write
from structures import Linear, labelled
from structures import write as write_structures
from test_potential_passes import SMALL, assert_same
from test_potential_training import fitting, train
from test_potential_training_run import ABOUT, words

import fusion
from fusion import zoo
from fusion.cli import publish
from fusion.datasets import Labelled
from fusion.errors import InputError
from fusion.potentials import PotentialMethod
from fusion.potentials.batch import batch_of
from fusion.potentials.training import outcome
from fusion.potentials.training.loss import Weights
from fusion.potentials.training.predictions import errors, predict
from fusion.potentials.training.targets import Labels
from fusion.runs.report import redraw
from fusion.zoo import card_file
from fusion_ani.network import ANI, ANI1

CHARGES = {1: 0.2, 6: -0.3, 8: -0.6}
LOSS = [
    "method.training.loss={energy: 0.1, forces: 0.1, dipole: 10.0}",
    "method.training.learning_rate=3e-3",
    "callbacks.checkpoint.every_n_steps=1000",
]


def of_charges(numbers: np.ndarray, positions: np.ndarray, charge: float) -> np.ndarray:
    """Dipole of `CHARGES`, shifted to add up to `charge`; in the units of the positions."""
    charges = np.array([CHARGES[number] for number in numbers.tolist()])
    return (charges + (charge - charges.sum()) / len(charges)) @ positions


def with_dipoles(data: Labelled) -> Labelled:
    """Add dipoles; every third structure is an ion, every fifth has no label."""
    charge = np.where(np.arange(len(data)) % 3 == 2, 1, 0)
    parts = [slice(*data.offsets[index : index + 2]) for index in range(len(data))]
    dipole = np.array([of_charges(data.numbers[p], data.positions[p], q) for p, q in zip(parts, charge, strict=True)])
    dipole[4::5] = np.nan
    return replace(data, dipole=dipole, charge=charge.astype(np.int16))


def model(kind: type[ANI] = ANI) -> ANI:
    torch.manual_seed(1)
    return kind(**{**SMALL, "charges": True}).double()


@pytest.mark.parametrize("kind", [ANI, ANI1])
@pytest.mark.parametrize("weights", [Weights(0.0, 0.0, 0.0, 1.0), Weights(0.5, 0.5, 0.0, 2.0)])
def test_gradients_agree_with_automatic_differentiation(kind: type[ANI], weights: Weights) -> None:
    assert_same(with_dipoles(labelled(6)), model(kind), weights)


def test_charges_of_elements_are_learned_from_dipoles() -> None:
    data = with_dipoles(labelled(60))
    loss = {"energy": 0.0, "forces": 0.0, "dipole": 1.0}
    ani = model().restricted(["H", "C", "O"]).double()
    module = fitting(ani, data, 2, loss=loss, epochs=60, batch=15, learning_rate=1e-2, final_learning_rate=1e-5)
    train(module)
    predictions = predict(module.passes, module.labels, module.validation_set, 2, 16)
    measured = errors(predictions, module.labels, Weights(0.0, 0.0, 0.0, 1.0))
    assert measured.dipole_mae_debye < 0.02 and measured.loss == pytest.approx(measured.dipole_rmse_debye**2)
    assert "D 0.0" in module.phase_text
    water = batch_of(data, np.array([0]), torch.float64)
    charges = ani.eval()(water).charges[0]
    shift = -(CHARGES[8] + 2 * CHARGES[1]) / 3
    assert charges.tolist() == pytest.approx([CHARGES[8] + shift, *[CHARGES[1] + shift] * 2], abs=0.05)


def test_crystals_and_models_without_charges_have_no_labels_of_dipoles() -> None:
    data = with_dipoles(labelled(6))
    periodic = np.zeros((6, 3), dtype=bool)
    periodic[0, 2] = True
    labels = Labels(replace(data, pbc=periodic), data.energy, torch.float64, dipoles=True)
    assert labels.has_dipole is not None and labels.has_dipole.tolist() == [False, True, True, True, False, True]
    assert fitting(Linear(), data).labels.dipole is None


def test_a_method_without_charges_cannot_learn_dipoles() -> None:
    method = PotentialMethod("linear", Linear())
    with pytest.raises(InputError, match="linear, untrained gives no dipoles"):
        method.trainable(0, ("H", "O"), dipoles=True)


# -- whole runs -------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Extended XYZ with dipoles in debye."""
    from ase.units import Debye

    path = write_structures(tmp_path_factory.mktemp("dipoles") / "data.extxyz", 40)
    frames: list[Atoms] = read(path, ":")
    for frame in frames:
        frame.info["mu"] = of_charges(frame.numbers, frame.positions, 0.0) / Debye
    write(path, frames)
    return path


@pytest.fixture(scope="module")
def finished(data: Path) -> Path:
    run = data.parent / "run"
    keys = ("data.dipole.key=mu", "data.dipole.unit=debye", "method.model.charges=true")
    assert fusion.run(words(data, run, *keys, *LOSS, "method.training.epochs=20")).status == "ok"
    return run


@pytest.mark.slow
def test_errors_of_dipoles_are_reported(pictures: None, finished: Path) -> None:
    parts = json.loads((finished / "result.json").read_text())["training"]["parts"]
    assert parts["test"]["dipole_mae_debye"] < 0.1 and parts["test"]["dipole_rmse_debye"] > 0.0
    assert "validation_dipole_mae_debye" in (finished / "metrics.csv").read_text()
    with np.load(finished / "dipoles.npz") as arrays:
        assert arrays["label"].shape == arrays["predicted"].shape == (4, 3)
    redraw(finished)
    assert (finished / "parity.png").stat().st_size > 5000


def test_a_published_model_predicts_dipoles_and_a_spectrum(
    finished: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusion.zoo.registry.user", lambda: tmp_path)
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    card = publish.add(finished, ABOUT, tmp_path)
    assert card.model.arguments["charges"] is True and {"debye"} <= {metric.unit for metric in card.metrics}
    use = ["+method=ani", "weights=tiny", "system=h2o", "dtype=float64"]
    energy = fusion.run([*use, f"hydra.run.dir={tmp_path / 'energy'}"])
    assert np.linalg.norm(energy.properties["dipole"]) > 0.1
    chosen = [f"data={data}", "data.dipole.key=mu", "data.dipole.unit=debye", "data.split.test=4"]
    chosen += ["data.split.validation=4", "task=evaluate", "task.part=test", f"hydra.run.dir={tmp_path / 'errors'}"]
    fusion.run([*use, *chosen])
    errors, told = (json.loads((run / "result.json").read_text()) for run in (tmp_path / "errors", finished))
    for name in ("mae_debye", "rmse_debye"):
        trained = told["training"]["parts"]["test"][f"dipole_{name}"]
        assert errors["evaluation"]["dipole"][name] == pytest.approx(trained, rel=1e-4)
    spectrum = fusion.run([*use, "task=vibrations", "task.fmax=1e-3", f"hydra.run.dir={tmp_path / 'vibrations'}"])
    document: dict[str, Any] = json.loads((tmp_path / "vibrations" / "result.json").read_text())
    assert spectrum.status == "ok" and max(filter(None, document["ir_intensities_km_per_mol"])) > 0.1
    assert document["intensities"]["dipole"]["by"] == "the method itself"


@pytest.mark.slow
def test_charges_are_added_to_a_model_without_charges(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusion.zoo.registry.user", lambda: tmp_path)
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    fusion.run(words(data, tmp_path / "plain", "method.training.epochs=1"))
    plain = replace(publish.add(tmp_path / "plain", ABOUT, tmp_path), spread=0.01, spread_factor=1.5)
    card_file.write(plain, tmp_path / "tiny-1.toml")
    before = zoo.load("tiny").state_dict()
    given = words(data, tmp_path / "run", "weights=tiny", "data.dipole.key=mu", "data.dipole.unit=debye")
    more = ["method.training.loss={energy: 0.0, forces: 0.0, dipole: 1.0}"]
    assert fusion.run([word for word in given if ".model." not in word] + more).status == "ok"
    document = json.loads((tmp_path / "run" / "result.json").read_text())
    assert document["training"]["model"]["charges"] is True
    after = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(after[f"model.{name}"], before[name].double()) for name in before)
    parts = document["training"]["parts"].values()
    others = {"energy_mae_kcal_mol", "forces_mae_mev_angstrom"}
    assert all("dipole_mae_debye" in part and not others & set(part) for part in parts)
    told = list(outcome.lines(document["training"]))
    assert document["training"]["uncertainty"] == {} and not any(line[0] == "uncertainty" for line in told)
    tuned = publish.add(tmp_path / "run", replace(ABOUT, name="polar"), tmp_path)
    assert tuned.spread_factor == plain.spread_factor == 1.5 and tuned.spread == plain.spread


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["method.training.loss.dipole=1"], "gives no dipoles"),
        (["method.model.charges=true"], "charges are learned from dipoles"),
        (["method.model.charges=true", "method.training.loss.dipole=1"], "the data have no dipoles"),
    ],
)
def test_impossible_trainings_of_dipoles_are_refused(data: Path, tmp_path: Path, more: list[str], said: str) -> None:
    key = [] if "the data" in said else ["data.dipole.key=mu"]
    with pytest.raises(InputError, match=said):
        fusion.run(words(data, tmp_path / "run", *key, *more))
