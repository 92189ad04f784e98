"""Settings composed without Hydra are those that Hydra composes, and every one is explained."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from omegaconf._utils import get_yaml_loader

from fusion.config import compose as trees
from fusion.config import described
from fusion.config.comments import Setting
from fusion.config.options import available
from fusion.errors import InputError

NAMES = {"_target_", "_partial_", "name", "about"}
"""Keys that no user sets to change a number."""
PLAIN = ("method.model.hidden.", "method.options.", "method.domain.", "method.state.")
"""Groups whose own comment explains their keys: elements, arguments of a calculator, the description of its domain."""

QUICK = [
    ["+method=ani", "task=md", "ensemble=npt"],
    ["+method=ani/ani1", "data=qm7", "task=train"],
    ["+method=ferminet/excited"],
    ["+method=psiformer", "optimiser=adam", "proposals=uniform", "reference=ci", "envelope=full"],
    ["+method=ferminet", "+estimator=[density,quadrupole]"],
    ["+method=coulomb", "descriptor=sorted"],
    ["+method=sum/d3", "executor=submitit", "trainer=gpu", "logger=wandb"],
    ["+method=dm21", "method.basis=sto-3g", "+method.extra={a: 1}", "weights=null"],
]


def plain(setting: Setting) -> Any:
    if setting.children is not None:
        return {key: plain(child) for key, child in setting.children.items()}
    return yaml.load(setting.text, Loader=get_yaml_loader()) if setting.text else None


def text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): text_keys(item) for key, item in value.items()}
    return [text_keys(item) for item in value] if isinstance(value, list) else value


def differ(cases: list[list[str]]) -> list[list[str]]:
    with trees.composer() as compose:
        return [
            words
            for words in cases
            if text_keys(OmegaConf.to_container(compose("config", words), resolve=False))
            != text_keys(plain(described.compose(words).settings))
        ]


def test_they_are_those_of_hydra() -> None:
    assert differ(QUICK) == []


@pytest.mark.slow
def test_they_are_those_of_hydra_for_every_option() -> None:
    cases = [[f"+method={name}"] for name in available("method")]
    cases += [["+method=hf", f"task={name}"] for name in available("task") if name != "compare"]
    cases += [
        ["+method=ani", f"{group}={name}"] for group in ("data", "system", "trainer") for name in available(group)
    ]
    assert differ(cases) == []


def unexplained(words: list[str], root: str) -> list[str]:
    settings = described.compose(words).settings
    node = settings.at(root)
    assert node is not None
    missing = []
    for place, leaf in node.leaves(root):
        inner = place.split(".")
        if NAMES & set(inner) or place.startswith(PLAIN) or leaf.comment or leaf.text.startswith("[{_target_"):
            continue
        if leaf.text.startswith("${") and "." not in leaf.text:  # shown as the setting of the run that it refers to
            continue
        missing.append(f"{' '.join(words)}: {place}")
    return missing


@pytest.mark.parametrize("name", available("task"))
def test_every_setting_of_a_task_has_a_comment(name: str) -> None:
    assert unexplained([f"task={name}"], "task") == []


@pytest.mark.parametrize("name", available("method"))
def test_every_setting_of_a_method_has_a_comment(name: str) -> None:
    assert unexplained([f"+method={name}"], "method") == []


@pytest.mark.parametrize(
    "group", ["optimiser", "ensemble", "estimator", "training", "executor", "trainer", "descriptor"]
)
def test_every_setting_of_a_choice_has_a_comment(group: str) -> None:
    for name in available(group):
        found = described.option(group, name)
        place = found.choices[group].package
        node = found.settings.at(place)
        assert node is not None and found.choices[group].about, f"{group}={name} says nothing of itself"
        for leaf, setting in node.leaves():
            assert NAMES & set(leaf.split(".")) or setting.comment or not leaf, f"{group}={name}: {leaf}"


@pytest.mark.parametrize("group", ["task", "optimiser", "envelope", "reference", "proposals", "logger", "kind"])
def test_every_option_says_what_it_is(group: str) -> None:
    silent = [name for name in available(group) if not described.option(group, name).choices[group].about]
    assert silent == []


def test_settings_of_the_run_have_comments() -> None:
    children = described.compose([]).settings.children or {}
    assert [
        name for name, leaf in children.items() if leaf.children is None and name != "data" and not leaf.comment
    ] == []


@pytest.mark.parametrize("word", ["method=nosuch", "task=enrgy", "system=lihh"])
def test_an_unknown_option_is_refused(word: str) -> None:
    with pytest.raises(described.UnknownOption):
        described.compose([word])


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(InputError, match=r"no setting 'task\.stepz'\. Did you mean 'task\.steps'\?"):
        described.compose(["+method=hf", "task=relax", "task.stepz=3"])


def test_references_are_resolved() -> None:
    found = described.compose(["+method=ani", "trainer=cpu"])
    device = found.settings.at("method.device")
    assert device is not None and found.value(device) == "cpu"
