"""Complete runs of task=train for a functional: killed runs resume identically, and the model can be published."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import fusion
from fusion import zoo
from fusion.cli import publish
from fusion.errors import InputError
from fusion.functionals.training import outcome
from resuming import Stop, assert_same_result, killed_and_resumed

DATA = """
h = { atoms = "H 0 0 0", spin = 1 }
h2 = { molecule = "H2" }
h2-2_0 = { atoms = "H 0 0 0; H 0 0 2.0", held_out = true }
h-50 = { atoms = "H 0 0 0", spin = 1, occupations = [[0.5], []], line = { h = 0.5 } }
"""
WORDS = [
    "+method=dm21",
    "weights=null",
    "task=train",
    "trainer=cpu",
    "method.model.width=4",
    "method.model.depth=1",
    "method.grid_level=0",
    "method.training.basis=sto-3g",
    "method.training.grid_level=0",
    "method.training.steps=12",
    "method.training.batch=1",
    "method.training.validate_every=5",
    "callbacks.checkpoint.every_n_steps=4",
]
ABOUT = publish.Facts("small", "a toy", "MIT", "nobody (2026)", data="H", level_of_theory="FCI", elements=("H",))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Uninterrupted run, with its labels in the cache beside it."""
    place = tmp_path_factory.mktemp("training")
    (place / "data.toml").write_text(DATA)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUSION_CACHE", str(place / "cache"))
        result = fusion.run([*WORDS, f"method.training.data={place / 'data.toml'}", f"hydra.run.dir={place / 'run'}"])
    assert result.status == "ok"
    return place / "run"


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 10])
def test_a_killed_run_resumes_to_the_same_result(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setenv("FUSION_CACHE", str(finished.parent / "cache"))
    words = [*WORDS, f"method.training.data={finished.parent / 'data.toml'}"]
    stop = Stop("fusion.functionals.training.regression:Regression._update", step)
    (resumed,) = killed_and_resumed(tmp_path, words, [stop])
    assert resumed.status == 0, resumed
    other = tmp_path / "run"
    assert_same_result(other, finished, ("metrics.csv", outcome.TABLE))
    one, two = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (finished, other))
    assert all(torch.equal(one["state_dict"][name], two["state_dict"][name]) for name in one["state_dict"])
    assert one["regression"]["done"] == two["regression"]["done"] == 12


def test_a_published_functional_gives_the_same_energies(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusion.zoo.registry.user", lambda: tmp_path)
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    card = publish.add(finished, ABOUT, tmp_path)
    assert (card.kind, card.method, card.model.arguments["width"]) == ("functional", "dm21", 4)
    rows = [row for row in outcome.read(finished) if row["held_out"]]
    shown = {metric.name: metric for metric in card.metrics}
    metric = shown["mean error, self consistent, held out, 1 all"]
    assert metric.value == pytest.approx(abs(rows[0]["self_consistent"] - rows[0]["reference"]), abs=1e-3)
    assert "method.training.steps=12" in metric.command and metric.unit == "kcal/mol"
    state = torch.load(finished / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    loaded = zoo.load("small").state_dict()
    assert all(torch.equal(loaded[name], state[f"functional.{name}"].to(loaded[name].dtype)) for name in loaded)


def test_a_functional_that_has_not_learned_is_not_converged(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step of a huge rate spoils it; its card says so as well."""
    monkeypatch.setattr("fusion.zoo.registry.user", lambda: tmp_path)
    monkeypatch.setenv("FUSION_CACHE", str(finished.parent / "cache"))
    data = f"method.training.data={finished.parent / 'data.toml'}"
    spoilt = ("method.training.learning_rate=10", "method.training.steps=2", f"hydra.run.dir={tmp_path / 'run'}")
    result = fusion.run([*(word for word in WORDS if "steps=12" not in word), data, *spoilt])
    errors = result.document["training"]["mae_kcal_mol"]["held_out"]["all"]
    assert result.status == "not_converged" and errors["fixed_density"] > errors["before_training"]
    assert "kcal/mol and was" in result.message and "before the training" in result.message
    assert publish.add(tmp_path / "run", ABOUT, tmp_path).training.data == "H; NOT CONVERGED"
    assert publish.add(finished, ABOUT, tmp_path).training.data == "H"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["weights=dm21"], "weights=null"),
        (["method.training.steps=0"], "steps must be a whole number"),
        (["method.training.basis=cc-pvxz"], "PySCF has no basis"),
        (["method.training.data=nothing.toml"], "cannot be read"),
        (["task=evaluate", "ckpt={run}"], "needs labelled structures, data=NAME"),
        (["ckpt={run}", "method.model.width=5"], "another training: its parameters"),
    ],
)
def test_invalid_trainings_are_refused(finished: Path, tmp_path: Path, words: list[str], said: str) -> None:
    where = tmp_path / "run"
    data = f"method.training.data={finished.parent / 'data.toml'}"
    words = [*WORDS, data, *(word.format(run=finished) for word in words), f"hydra.run.dir={where}"]
    with pytest.raises(InputError, match=said) as error:
        fusion.run(list({word.partition("=")[0]: word for word in words}.values()))
    assert "\n" not in str(error.value) and not where.exists()


def test_published_functional_has_its_errors_on_its_card() -> None:
    card = zoo.find("mlxc-small")
    errors = {metric.name: metric.value for metric in card.metrics}
    assert card.kind == "functional" and "def2-SVP" in card.training.level_of_theory
    assert errors["mean error, self consistent, held out, 13 all"] < 10.0
    assert sum(tensor.numel() for tensor in zoo.load("mlxc-small").state_dict().values()) == 3843
