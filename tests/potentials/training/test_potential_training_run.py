"""task=train of a potential as a whole: kill and resume, two processes, publication, refusals."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from structures import write

import fusion
from fusion import zoo
from fusion.chemistry.system import System
from fusion.cli import publish
from fusion.errors import InputError
from fusion.methods import by_name, protocol
from fusion.potentials.training import outcome
from fusion.runs.layout import CHECKPOINT
from fusion.runs.report import redraw
from processes import ranks
from resuming import Stop, assert_same_result, differences, killed_and_resumed

ABOUT = publish.Facts("tiny", "a toy", "MIT", "nobody (2026)", data="toy", level_of_theory="pairs")
ANGLES = "method.model.angle_shifts=[0.4, 0.8, 1.2, 1.6, 2.0, 2.4, 2.8, 3.0]"
SHIFTS = ("method.model.angular_shifts=[0.8, 1.2, 1.6, 2.0]", ANGLES, "method.model.radial_eta=4.0")
HIDDEN = "method.model.hidden={H: [6, 5], C: [6, 5], N: [6], O: [6, 5], S: [6], F: [6], Cl: [6]}"


def words(data: Path, run: Path, *more: str) -> list[str]:
    given = [
        *("+method=ani", "weights=null", "task=train", "dtype=float64", "trainer=cpu", f"data={data}"),
        *("method.model.members=2", HIDDEN, *SHIFTS, "data.split.test=4", "data.split.validation=4"),
        *("method.training.epochs=5", "method.training.batch=6", "callbacks.checkpoint.every_n_steps=4"),
        *(f"hydra.run.dir={run}", *more),
    ]
    return list({word.partition("=")[0]: word for word in given}.values())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of an uninterrupted run."""
    place = tmp_path_factory.mktemp("training")
    write(place / "data.extxyz", 30)
    result = fusion.run(words(place / "data.extxyz", place / "run"))
    assert result.status == "ok"
    return place / "run"


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def state(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("step", "note"),
    [
        pytest.param(2, f"no {CHECKPOINT} yet: starting from the beginning", marks=pytest.mark.slow),
        (14, f"resuming from epoch 3 of 5 ({CHECKPOINT})"),
    ],
)
def test_a_killed_run_resumes_to_the_same_result(finished: Path, tmp_path: Path, step: int, note: str) -> None:
    """Kill before and after the first checkpoint, which is written at step 4, the end of the first epoch."""
    stop = Stop("fusion.potentials.training.descent:Descent.step", step)
    (resumed,) = killed_and_resumed(tmp_path, words(finished.parent / "data.extxyz", tmp_path / "run"), [stop])
    assert resumed.status == 0 and note in resumed.out, resumed
    assert_same_result(tmp_path / "run", finished, ("metrics.csv", "structures.csv", "split.json"))
    for part in ("state_dict", "fitting"):
        assert differences(state(tmp_path / "run")[part], state(finished)[part]) == []


@pytest.fixture(scope="module")
def alone_and_together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Runs by one process and by two processes, whose parts have different numbers of structures."""
    place = tmp_path_factory.mktemp("ranks")
    data, alone, together = (place / name for name in ("data.extxyz", "alone", "together"))
    write(data, 53)
    split = ("data.split.validation=21", "data.split.test=9", "method.training.epochs=3")
    fusion.run(words(data, alone, *split))
    both = ranks(place, *words(data, together, *split, "trainer=ddp", "trainer.accelerator=cpu"))
    assert [done.status for done in both] == [0, 0], both
    return alone, together


def test_two_processes_train_like_one(alone_and_together: tuple[Path, Path]) -> None:
    for one, two in zip(*map(rows, alone_and_together), strict=True):
        for key in one:
            if one[key] and key != "phase":
                assert float(two[key]) == pytest.approx(float(one[key]), rel=1e-6), key
    one, two = (state(path)["state_dict"] for path in alone_and_together)
    assert all(torch.allclose(one[name], two[name], rtol=1e-6, atol=1e-9) for name in one)


def test_two_processes_calibrate_like_one(alone_and_together: tuple[Path, Path]) -> None:
    """The tables of two processes cover all structures."""
    documents = (json.loads((run / "result.json").read_text())["training"] for run in alone_and_together)
    one, two = (document["uncertainty"] for document in documents)
    for key in ("factor", "low", "high", "limit_hartree_per_sqrt_atom"):
        assert two[key] == pytest.approx(one[key], rel=1e-4), key
    for key in ("factor", "low", "high", "structures", "components"):
        assert two["forces"][key] == pytest.approx(one["forces"][key], rel=1e-4), key
    for part in (two["test"], two["forces"]["test"]):
        assert 0.0 < part["calibrated"]["within_2"] <= 1.0
    tables = [(run / "structures.csv").read_text().splitlines() for run in alone_and_together]
    assert len(tables[0]) == len(tables[1]) == 1 + 21 + 9


def test_files_and_result_of_a_run(pictures: None, finished: Path) -> None:
    document = json.loads((finished / "result.json").read_text())
    training = document["training"]
    assert [training["parts"][part]["structures"] for part in ("train", "validation", "test")] == [22, 4, 4]
    assert training["epochs"] == 5 and training["members"] == 2 and training["model"]["elements"] == ["H", "C", "O"]
    best = min(float(row["validation_loss"]) for row in rows(finished))
    validation = training["parts"]["validation"]
    (row,) = [row for row in rows(finished) if float(row["validation_loss"]) == best]
    assert validation["energy_mae_kcal_mol"] == pytest.approx(float(row["validation_energy_mae_kcal_mol"]), rel=1e-12)
    redraw(finished)
    assert all((finished / name).stat().st_size > 5000 for name in ("training.png", "parity.png"))
    assert list(training["self_energies_hartree"]) == ["H", "C", "O"]


def test_a_trained_potential_is_published_and_fine_tuned(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusion.zoo.registry.user", lambda: tmp_path)
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    card = publish.add(finished, ABOUT, tmp_path)
    assert (card.kind, card.method, card.elements) == ("potential", "ani", ("H", "C", "O"))
    assert {metric.unit for metric in card.metrics} == {"kcal/mol", "meV/Angstrom"} and len(card.metrics) == 6
    loaded = zoo.load("tiny").state_dict()
    kept = state(finished)["state_dict"]
    assert all(torch.equal(loaded[name], kept[f"model.{name}"].to(loaded[name].dtype)) for name in loaded)
    given = words(finished.parent / "data.extxyz", tmp_path / "run", "weights=tiny", "method.training.epochs=1")
    given += ["data.split.unseen_molecules=1"]
    frozen = "method.training.frozen=[networks.*.weights.0]"
    assert fusion.run([word for word in given if ".model." not in word] + [frozen]).status == "ok"
    tuned = state(tmp_path / "run")["state_dict"]
    parts = json.loads((tmp_path / "run" / "result.json").read_text())["training"]["parts"]
    assert parts["unseen"]["structures"] == 15 and parts["test"]["structures"] == 4
    changed = {name for name in loaded if not torch.equal(tuned[f"model.{name}"], kept[f"model.{name}"])}
    assert "networks.H.weights.0" not in changed and "networks.H.weights.1" in changed


@pytest.mark.slow
def test_an_ensemble_is_calibrated_and_published_with_its_factor(
    pictures: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusion.zoo.registry.user", lambda: tmp_path)
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    data, run = tmp_path / "data.extxyz", tmp_path / "run"
    write(data, 70)
    fusion.run(words(data, run, "data.split.validation=24", "data.split.test=24"))
    uncertainty = json.loads((run / "result.json").read_text())["training"]["uncertainty"]
    assert uncertainty["structures"] == 24 and uncertainty["calibrated_on"] == "validation"
    with (run / "structures.csv").open(newline="") as file:
        told = list(csv.DictReader(file))
    std, error = ({part: [] for part in ("validation", "test")} for _ in range(2))
    for row in told:
        std[row["part"]].append(float(row["energy_std_hartree"]))
        error[row["part"]].append(abs(float(row["energy_hartree"]) - float(row["label_hartree"])))
    within = {part: sum(e <= 1.00001 * s for e, s in zip(error[part], std[part], strict=True)) for part in std}
    assert within["validation"] == 18, "of 24 structures the 18th is the first that covers 68.3 % of 25"
    assert uncertainty["test"]["calibrated"]["within_1"] == pytest.approx(within["test"] / 24, abs=1e-9)
    assert not any(row["outside"] == "1" for row in told if row["part"] == "validation")
    assert sum(row["outside"] == "1" for row in told if row["part"] == "test") == uncertainty["test"]["outside"]
    assert (run / "calibration.png").stat().st_size > 5000

    forces = uncertainty["forces"]
    assert forces["structures"] == 24 and forces["low"] <= forces["factor"] <= forces["high"]
    with np.load(run / "forces.npz") as arrays:
        error, std = np.abs(arrays["predicted"] - arrays["label"]), arrays["std"]
    assert forces["test"]["components"] == error.size
    assert forces["test"]["calibrated"]["within_1"] == pytest.approx(np.mean(error <= std), abs=2 / error.size)
    said = list(outcome.lines(json.loads((run / "result.json").read_text())["training"]))
    assert [line[0] for line in said if line[0].startswith("spread")] == ["spread", "spread, forces"]

    card = publish.add(run, ABOUT, tmp_path)
    assert card.forces_factor == forces["factor"]
    method, water = by_name.method("tiny"), System("water", ("O", "H", "H"), 2.0 * np.eye(3))
    (one,) = protocol.calculate(method, [water], {"forces_std"})
    method.domain = replace(method.domain, forces_factor=None)
    (raw,) = protocol.calculate(method, [water], {"forces_std"})
    np.testing.assert_allclose(one.properties["forces_std"], forces["factor"] * raw.properties["forces_std"])
    assert card.spread_factor == uncertainty["factor"] and card.spread == uncertainty["limit_hartree_per_sqrt_atom"]
    assert {metric.unit for metric in card.metrics} == {"kcal/mol", "meV/Angstrom", "%"}
    chosen = ("+method=ani", "weights=tiny", "task=evaluate", "dtype=float64", "task.part=test", f"data={data}")
    split = ("data.split.validation=24", "data.split.test=24", f"hydra.run.dir={tmp_path / 'again'}")
    fusion.run([*chosen, *split])
    again = json.loads((tmp_path / "again" / "result.json").read_text())["evaluation"]
    assert again["outside"] == uncertainty["test"]["outside"] and again["calibration"]["factor"] == card.spread_factor
    assert again["calibration"]["within_1"] == uncertainty["test"]["calibrated"]["within_1"]
    rms = uncertainty["test"]["calibrated"]["rms_spread_kcal_mol"]
    assert again["calibration"]["rms_spread_kcal_mol"] == pytest.approx(rms, rel=1e-3)


def test_uncalibrated_potentials_report_the_reason(finished: Path, tmp_path: Path) -> None:
    training = json.loads((finished / "result.json").read_text())["training"]
    assert "4 structures for validation" in training["uncertainty"]["none"]
    single = ("method.model.members=1", "method.training.epochs=1")
    fusion.run(words(finished.parent / "data.extxyz", tmp_path / "run", *single))
    training = json.loads((tmp_path / "run" / "result.json").read_text())["training"]
    assert "a single network has no spread" in training["uncertainty"]["none"]
    (line,) = [line for line in outcome.lines(training) if line[0] == "uncertainty"]
    assert line[1] == "none"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "needs labelled structures"),
        (["method.training.epochs=0"], "epochs must be a whole number"),
        (["method.training.frozen=[nothing]"], "no parameter of the model"),
        (["method.model.hidden.C=5"], "sizes of the hidden layers for C, .* not 5"),
        (["method.model.elements=[H,C,O,Br]"], "hidden.Br=.* there are none"),
        (["method.training.new_elements=[Br]"], "new_elements needs weights="),
        (["ckpt={run}", "method.model.members=3"], "another training: its parameters"),
        (["ckpt={run}", "data.limit=20"], "another training: its structures"),
    ],
)
def test_impossible_trainings_are_refused(finished: Path, tmp_path: Path, more: Any, said: str) -> None:
    where = tmp_path / "run"
    given = words(finished.parent / "data.extxyz", where, *(word.format(run=finished) for word in more))
    given = given if more else [word for word in given if not word.startswith("data")]
    with pytest.raises(InputError, match=said) as error:
        fusion.run(given)
    assert "\n" not in str(error.value) and not where.exists()
