"""Publication of a finished run as a card and weights; the loaded model gives the same results."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import fusion
from fusion import app, zoo
from fusion.chemistry import system_input
from fusion.cli import publish
from fusion.cli.publish import Facts
from fusion.cli.repeated_command import repeating
from fusion.errors import InputError
from fusion.methods import protocol
from tiny_models import left_in_cache, surroundings


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from surroundings(tmp_path, monkeypatch)


ABOUT = Facts("mine", summary="a small one", licence="MIT", citation="A. Nobody (2026)")
LABELLED = replace(ABOUT, data="none", level_of_theory="none")
SMALL = (
    "method.walkers=16 method.model.one_electron=8 method.model.two_electron=4 method.model.layers=1 "
    "method.pretraining.steps=3 method.sampling.burn_in=2 method.optimisation.steps=3 method.evaluation.steps=8"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "h2"
    fusion.run(["+method=ferminet", "system=h2", *SMALL.split(), f"hydra.run.dir={directory}"])
    return directory


def test_a_published_wavefunction_equals_the_trained_one(tiny: Path, trained: Path) -> None:
    card = publish.add(trained, ABOUT, tiny)
    assert (card.kind, card.method, card.elements, card.label) == ("ansatz", "ferminet", ("H",), "mine@1")
    assert card.system is not None and card.system.positions[1] == (0.0, 0.0, 1.401)
    assert card.training.data == "none: the variational principle; 3 steps of 16 walkers, seed 0; NOT CONVERGED"
    names = [metric.name.partition(" (")[0] for metric in card.metrics]
    assert names == [
        "energy",
        "standard error of the energy",
        "variance of the local energy",
        "correlation energy",
        "standard error of the correlation energy",
    ]
    assert card == zoo.find("mine")

    config = app.load_config(trained)
    method = protocol.build(config.method)
    wavefunction = method.ansatz(system_input.read(config.system, trained))
    state = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    wavefunction.load_state_dict({name.removeprefix("ansatz."): value for name, value in state.items()})
    wavefunction.requires_grad_(False)  # torch multiplies matrices in another order when it records
    electrons = torch.randn(5, 2, 3, generator=torch.manual_seed(0))
    for one, other in zip(fusion.load("mine")(electrons), wavefunction(electrons), strict=True):
        assert torch.equal(one, other)


def test_the_command_on_the_card_reproduces_its_number(tiny: Path, trained: Path, tmp_path: Path) -> None:
    import shlex

    metric = publish.add(trained, ABOUT, tiny).metrics[0]
    words = shlex.split(metric.command)
    assert words[:3] == ["python", "-m", "fusion"]
    assert fusion.run([*words[3:], f"hydra.run.dir={tmp_path / 'again'}"]).energy == pytest.approx(metric.value, 1e-6)


def test_publishing_again_makes_a_new_version(tiny: Path, trained: Path) -> None:
    publish.add(trained, ABOUT, tiny)
    assert publish.add(trained, replace(ABOUT, summary="a better one"), tiny).label == "mine@2"
    assert zoo.find("mine").summary == "a better one"


def potential_checkpoint(path: Path, prefix: str) -> dict[str, torch.Tensor]:
    from tiny.model import Pair

    torch.manual_seed(1)
    model = Pair(["H", "O"])
    torch.nn.init.normal_(model.strength)
    torch.save({"state_dict": {prefix + name: value for name, value in model.state_dict().items()}, "epoch": 1}, path)
    return dict(model.state_dict())


@pytest.mark.parametrize("prefix", ["", "model.", "module.network."])
def test_a_checkpoint_of_a_potential_is_published(tiny: Path, tmp_path: Path, prefix: str) -> None:
    state = potential_checkpoint(tmp_path / "best.ckpt", prefix)
    words = ["+method=tinypair", "method.model.range_bohr=2.5"]
    card = publish.add(tmp_path / "best.ckpt", LABELLED, tiny, words)
    assert (card.kind, card.elements, card.metrics, card.system) == ("potential", ("H", "O"), (), None)
    loaded = fusion.load("mine")
    assert loaded.range_bohr == 2.5
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in state.items())


def test_wrong_publications_are_refused_and_write_nothing(tiny: Path, trained: Path, tmp_path: Path) -> None:
    potential_checkpoint(tmp_path / "best.ckpt", "model.")
    torch.save({"model.strength": torch.ones(119), "ema.strength": torch.ones(119)}, tmp_path / "other.ckpt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    (tmp_path / "running").mkdir()
    (tmp_path / "running/config.yaml").write_text((trained / "config.yaml").read_text())
    pair = ["+method=tinypair"]
    cases: list[tuple[Path, Facts, list[str], str]] = [
        (trained, replace(ABOUT, name="ani-2x"), [], "ani-2x is a model of .*; choose another name"),
        (trained, replace(ABOUT, name="Mine"), [], "name must be lower-case"),
        (tmp_path / "running", ABOUT, [], "has no result: the run is not finished"),
        (tmp_path / "absent", ABOUT, [], "no such run directory or checkpoint"),
        (tmp_path, ABOUT, [], "is not the directory of a run"),
        (tmp_path / "best.ckpt", LABELLED, [], "name its model with --model"),
        (tmp_path / "text.ckpt", LABELLED, pair, "not a checkpoint of plain tensors"),
        (tmp_path / "other.ckpt", LABELLED, pair, "does not hold the weights of tiny.model.Pair"),
    ]
    for run, about, words, said in cases:
        with pytest.raises(InputError, match=said) as caught:
            publish.add(run, about, tiny, words)
        assert "\n" not in str(caught.value)
    assert list(tiny.iterdir()) == [] and left_in_cache() == []


def test_a_card_needs_only_a_name(tiny: Path, trained: Path, tmp_path: Path) -> None:
    """Facts without a value are marked as not stated."""
    card = publish.add(trained, Facts("mine"), tiny)
    assert card.summary == "FermiNet of H2" and card.training.data.startswith("none: the variational principle")
    assert publish.not_stated(card) == ["licence", "citation"]
    potential_checkpoint(tmp_path / "best.ckpt", "model.")
    bare = publish.add(tmp_path / "best.ckpt", Facts("other"), tiny, ["+method=tinypair"])
    assert publish.not_stated(bare) == ["licence", "citation", "data", "level-of-theory"]
    assert publish.not_stated(publish.add(trained, ABOUT, tiny)) == []


@pytest.mark.parametrize("name", ["small.extxyz", "my data.extxyz", "it's@home.extxyz", "POSCARS"])
def test_the_command_of_a_training_names_its_data_and_settings(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shlex

    from fusion.config import compose as trees
    from fusion.config import overrides

    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("")
    words = ["+method=coulomb", "weights=null", "task=train", f"data={name}", "data.energy_unit=kcal/mol", "seed=3"]
    words += ["data.baseline={method: hf, basis: 6-31G(d)}", "method.training.epochs=7", "data.energy=it's E"]

    def composed(given: list[str]) -> Any:
        return app.resolved(trees.compose(overrides.prepare(given, multirun=False))[0], tmp_path)

    config = composed(words)
    command = shlex.split(repeating(config))
    assert command[:4] == ["python", "-m", "fusion", "+method=coulomb"] and f"data={name}" in command
    assert composed(command[3:]) == config


def test_the_directory_of_a_run_stands_for_its_model(tiny: Path, trained: Path, tmp_path: Path) -> None:
    from fusion.methods import addresses

    label = addresses.named(str(trained))
    assert label == addresses.named(f"{trained}/") and label.endswith("@1")
    published = publish.add(trained, ABOUT, tiny)
    card = zoo.find(label)
    assert card.weights == published.weights and card.system == published.system and zoo.pulled(card)


def test_the_directory_of_a_stranger_names_no_other_class(tiny: Path, trained: Path, tmp_path: Path) -> None:
    from fusion.methods import addresses

    copy = tmp_path / "stranger"
    shutil.copytree(trained, copy)
    config = OmegaConf.load(copy / "config.yaml")
    OmegaConf.save(config, copy / "config.yaml")  # without the signature
    assert addresses.named(str(copy)) != addresses.named("pair")
    config.method.model._target_ = "os.system"
    OmegaConf.save(config, copy / "config.yaml")
    with pytest.raises(InputError, match=r"method.model._target_=os.system is refused"):
        addresses.named(str(copy))
