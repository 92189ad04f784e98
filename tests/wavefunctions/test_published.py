"""Wavefunctions from the zoo: `weights=NAME` brings system and network to evaluation, diffusion and training."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import fusion
from fusion import zoo
from fusion.chemistry.system import System
from fusion.cli import publish
from fusion.cli.publish import Facts
from fusion.cli.repeated_command import repeating
from fusion.console.format import console
from fusion.errors import CalculationError, InputError
from fusion.methods.card_words import with_card
from fusion.runs.results import Result
from fusion.wavefunctions.published import start
from fusion.zoo import card_file
from fusion.zoo.card import Nuclei
from killable import TINY

TRAINED = [word for word in TINY if not word.startswith("hydra")]
WORDS = ["+method=ferminet", "weights=mine"]
SHORT = ["method.walkers=16", "method.sampling.burn_in=20", "method.evaluation.steps=12"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "h2"
    fusion.run([*TRAINED, f"hydra.run.dir={directory}"])
    return directory


@pytest.fixture(scope="module")
def published(trained: Path) -> Path:
    publish.add(trained, Facts("mine"), trained.parent / "zoo")
    return trained.parent / "zoo"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: Path) -> Iterator[Path]:
    """Card `mine` of the trained wavefunction in a zoo whose address is a file:// URL, with an empty cache."""
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    shutil.copytree(published, tmp_path / "zoo")
    monkeypatch.setenv("FUSION_ZOO", f"file://{tmp_path / 'zoo'}")
    monkeypatch.chdir(tmp_path)
    console.cache_clear()
    yield tmp_path / "zoo" / "mine-1.toml"
    console.cache_clear()


def run(*words: str) -> Result:
    return fusion.run([*WORDS, *SHORT, *words, "hydra.run.dir=run"])


def document() -> Any:
    return json.loads(Path("run/result.json").read_text())


def phases() -> list[str]:
    with Path("run/metrics.csv").open(newline="") as table:
        return [row["phase"] for row in csv.DictReader(table)]


def checkpoint(directory: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(directory / "checkpoints/last.ckpt", weights_only=True)
    return content


def test_the_file_has_parameters_and_walkers_in_single_precision(mine: Path, trained: Path) -> None:
    tensors, content = zoo.state(zoo.find("mine")), checkpoint(trained)
    assert torch.equal(tensors.pop("walkers"), content["vmc"]["electrons"])
    assert {f"ansatz.{name}" for name in tensors} == set(content["state_dict"])
    assert all(torch.equal(tensor, content["state_dict"][f"ansatz.{name}"]) for name, tensor in tensors.items())
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


def test_an_evaluation_takes_system_and_network_from_the_card(mine: Path, trained: Path) -> None:
    result = run("task=evaluate")
    written = document()
    assert (result.system.formula, written["settings"]["method"]["model"]["layers"]) == ("H2", 2)
    assert written["weights"] == zoo.find("mine").identity and result.system.reference is not None
    assert phases() == ["evaluate"] * 12
    before, after = checkpoint(trained)["state_dict"], checkpoint(Path("run"))["state_dict"]
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_training_goes_on_with_the_last_steps(mine: Path, trained: Path) -> None:
    run("method.optimisation.steps=40")
    assert phases() == ["optimise"] * 5 + ["evaluate"] * 12
    before, after = checkpoint(trained)["state_dict"], checkpoint(Path("run"))["state_dict"]
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_training_at_another_geometry_starts_at_the_parameters(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run("system.distance=1.5", "method.optimisation.steps=40")
    assert result.system.positions[1, 2] == pytest.approx(1.5)
    assert "starting from mine@1, of another geometry, with the last 5 steps" in capsys.readouterr().out
    assert phases() == ["optimise"] * 5 + ["evaluate"] * 12


def test_diffusion_follows_the_evaluation(mine: Path) -> None:
    run("task=dmc", "task.steps=20", "task.equilibration=5", "task.time_steps=[0.02]")
    assert set(phases()) == {"evaluate", "diffuse"}
    assert document()["weights"]["name"] == "mine"


def test_a_calculation_of_another_task_starts_at_the_wavefunction(mine: Path) -> None:
    """Without any step, its energy is that of the evaluation."""
    evaluated = run("task=evaluate").energy
    shutil.rmtree("run")
    assert run("task=energy", "method.optimisation.steps=0", "method.pretraining.steps=0").energy == evaluated
    assert document()["weights"]["name"] == "mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["system.distance=1.5", "task=evaluate"], "mine@1 belongs to .* geometry; optimise it here first: task=train"),
        (["system.distance=1.5", "task=dmc"], "mine@1 belongs to .* geometry; optimise it here first: task=train"),
        (
            ["system=lih"],
            "formula is H2 there, LiH here; geometry transfer between different molecules is not possible",
        ),
        (["system.charge=1", "system.spin=1"], "charge is 0 there, 1 here"),
        (["system.spin=2"], "spin is 0 there, 2 here"),
        (["method.model.layers=3"], "another network: layers is 2 there, 3 here"),
        (["envelope=diagonal"], "envelope=diagonal: mine@1 has a network of its own, with another envelope"),
        (["task=energy", "system=he"], "mine@1 belongs to another system: formula is H2 there, He here"),
    ],
)
def test_conflicting_words_are_refused(mine: Path, words: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        run(*words)
    assert "\n" not in str(caught.value) and not Path("run").exists()


def test_options_that_agree_with_the_card_are_accepted(mine: Path) -> None:
    words = [*WORDS, "envelope=isotropic", "reference=by_size"]
    assert with_card(words)[-len(words) :] == words


def test_a_preset_of_another_network_is_refused(mine: Path) -> None:
    with pytest.raises(InputError, match="ferminet/paper: mine@1 has a network of its own"):
        with_card(["+method=ferminet/paper", "weights=mine"])


def test_a_sweep_over_wavefunctions_is_refused(mine: Path) -> None:
    with pytest.raises(InputError, match="a sweep has one wavefunction"):
        with_card(["+method=ferminet", "weights=mine,mine@1"])


def test_another_method_is_refused(mine: Path) -> None:
    with pytest.raises(InputError, match=r"mine@1 is a model of \+method=ferminet, not of \+method=psiformer"):
        fusion.run(["+method=psiformer", "weights=mine", "hydra.run.dir=run"])


def test_a_checkpoint_beside_the_card_is_refused(mine: Path, trained: Path) -> None:
    with pytest.raises(InputError, match=r"weights=mine@1 and ckpt=.* both name a wavefunction; leave one of them out"):
        run(f"ckpt={trained}")


def test_a_tampered_file_is_refused(mine: Path) -> None:
    file = mine.with_name("mine-1.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CalculationError, match="wrong contents"):
        run("task=evaluate")


def test_a_card_that_names_other_code_is_refused(mine: Path) -> None:
    text = mine.read_text()
    mine.write_text(text.replace("fusion.wavefunctions.envelopes.IsotropicEnvelope", "os.system"))
    with pytest.raises(InputError, match=r"its card may not set method.model.envelope._target_=os.system"):
        run("task=evaluate")


@pytest.mark.parametrize("key", ["a:1,layers", "a},b:{c"])
def test_a_card_cannot_smuggle_settings_in_the_name_of_another(mine: Path, key: str) -> None:
    text = mine.read_text()
    mine.write_text(text.replace("[model.arguments]\n", f'[model.arguments]\n"{key}" = 1\n'))
    with pytest.raises(InputError, match="which is not a name"):
        run("task=evaluate")


def test_a_geometry_without_a_name_comes_from_the_card(mine: Path, tmp_path: Path) -> None:
    """A card of a stretched molecule has the coordinates, since the named system is another geometry."""
    model = card_file.read(mine)
    assert model.system is not None
    text = mine.read_text().replace("1.401", "1.6")
    mine.write_text(text)
    words = with_card(WORDS)
    assert "system=inline" in words and "++system.positions=[[0.0,0.0,0.0],[0.0,0.0,1.6]]" in words
    assert run("task=evaluate").system.positions[1, 2] == pytest.approx(1.6)


def test_core_potentials_are_on_the_card(mine: Path) -> None:
    nuclei = Nuclei(("Li", "H"), ((0.0, 0.0, 0.0), (0.0, 0.0, 3.015)), name="lih", ecp={"Li": "ccecp"})
    card_file.write(replace(card_file.read(mine), system=nuclei), mine)
    assert card_file.read(mine).system == nuclei and nuclei.system("lih").n_electrons == 2
    words = with_card(WORDS)
    assert "system=lih" in words and "++system.ecp={Li:'ccecp'}" in words


def test_a_name_that_leads_out_of_the_run_directory_is_refused(mine: Path) -> None:
    mine.write_text(mine.read_text().replace('name = "h2"', 'name = "../h2"'))
    with pytest.raises(InputError, match=r"system.name must be letters, digits, _, \+ and -, not '../h2'"):
        card_file.read(mine)


def test_the_order_of_the_atoms_matters(mine: Path) -> None:
    """Hydrogen fluoride with its atoms exchanged would carry the walkers of one nucleus to the other."""
    from fusion.wavefunctions.checkpoint import identity, refuse_other

    positions = torch.tensor([[0.0, 0, 0], [0, 0, 1.7]]).numpy()
    one, other = (System("hf", symbols, positions) for symbols in (("H", "F"), ("F", "H")))
    stored, expected = (identity(system, torch.nn.Module(), {}) for system in (one, other))
    with pytest.raises(InputError, match="its atoms are H F, in this order, and F H here"):
        refuse_other(stored, expected, "mine@1")


def test_a_card_without_walkers_is_refused(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = zoo.find("mine")
    tensors = {name: tensor for name, tensor in zoo.state(model).items() if name != "walkers"}
    monkeypatch.setattr(zoo, "state", lambda card: tensors)
    with pytest.raises(InputError, match=r"mine@1 has no walkers \(W, 2, 3\)"):
        start(model, model.system.system("mine"), fusion.load("mine"), model.model.settings)  # type: ignore[union-attr]


def test_the_command_of_a_further_training_names_its_start(mine: Path, tmp_path: Path) -> None:
    import shlex

    from fusion import app
    from fusion.config import compose as trees
    from fusion.config import overrides

    def composed(words: list[str]) -> Any:
        return app.resolved(trees.compose(with_card(overrides.prepare(words, multirun=False)))[0], tmp_path)

    config = composed([*WORDS, *SHORT, "seed=3"])
    command = shlex.split(repeating(config))[3:]
    assert "weights=mine" in command and "method.model.layers=2" not in command
    assert composed(command) == config


def test_a_run_of_diffusion_is_not_published(mine: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "other")
    file = tmp_path / "other/config.yaml"
    file.write_text(file.read_text().replace("name: train\n", "name: dmc\n"))
    with pytest.raises(InputError, match="task=dmc is not published: publish the run of task=train"):
        publish.add(tmp_path / "other", Facts("other"), mine.parent)
