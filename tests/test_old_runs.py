"""Runs of an earlier version, one of each task, whose configurations name classes by the modules of that time.

`old_runs/NAME` was interrupted, or had finished where it has a result.json; none bears the signature of a user.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_method

from fusion.app import load_config
from fusion.config.moved_names import ABOUT, MOVED, current
from fusion.config.options import sources
from fusion.config.places import of
from fusion.methods import by_name
from fusion.methods.about import About
from processes import Program

OLD = Path(__file__).parent / "old_runs"
ENERGIES: dict[str, Any] = {  # hartree, of the same run without interruption in the earlier version
    "energy": -1.1166856302628385,
    "sum": -1.1168116526460807,
    "relax": -74.96590119214181,
    "vibrations": -1.1175058851161008,
    "scan": -1.1108503974015207,
    "md": -1.1165049278384747,
    "ts": -0.002,
    "irc": -0.002,
    "ferminet": -0.8373364814595277,
}
SLOW = {"compare", "ferminet", "train_functional", "train_potential"}
UNFINISHED = {"ferminet"}
"""Runs too short for today's verdict on the remaining error."""
RUNS = [
    pytest.param(path.name, marks=[pytest.mark.slow] if path.name in SLOW else [])
    for path in sorted(OLD.iterdir())
    if (path / "config.yaml").is_file()
]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_an_earlier_version_is_resumed_and_reported(program: Program, tmp_path: Path, name: str) -> None:
    shutil.copytree(OLD / name, tmp_path / "run")
    shutil.copytree(OLD / "inputs", tmp_path / "inputs")
    done = program("resume", "run")
    assert done.status == (name in UNFINISHED), done
    document = json.loads((tmp_path / "run" / "result.json").read_text())
    assert document["status"] == ("not_converged" if name in UNFINISHED else "ok")
    if name in ENERGIES:
        assert document["energy"]["value"] == pytest.approx(ENERGIES[name], abs=1e-6)
    reported = program("report", "run")
    assert reported.status == 0 and "result.json" in reported.out, reported


def test_every_moved_class_exists_and_may_be_named_by_a_configuration() -> None:
    for name in MOVED.values():
        assert callable(get_method(name))
    allowed = {value for values in of(tuple(sources())).values.values() for value in values}
    assert set(MOVED.values()) <= allowed


def test_the_description_of_a_method_moves_into_its_own_node() -> None:
    target = {"_target_": "fusion.methods.sums.SumMethod", "name": "sum", "terms": ["hf"]}
    node, new = {**target, "title": "mine", "summary": "s"}, {**target, "about": {"title": "mine", "summary": "s"}}
    assert current({"run": {"method": node}}) == {"run": {"method": new}} == current({"run": {"method": new}})
    entry = {"method": "dft", "title": "not a description"}
    assert current({"methods": [entry]}) == {"methods": [entry]}
    assert {field.name for field in fields(About)} >= set(ABOUT)  # texts have been added since then
    old, today = load_config(OLD / "energy").method, by_name.node("hf", {"basis": "sto-3g"})
    assert all(old[key] == today[key] for key in old if key != "about")  # settings have been added since then
    assert set(old["about"]) <= set(today["about"]) and old["about"]["title"] == today["about"]["title"] == "HF"


def test_names_are_replaced_at_any_depth() -> None:
    old = "fusion.tasks.motion.ensembles.Langevin"
    settings = {"task": {"ensemble": {"_target_": old}, "note": old}, "list": [{"model._target_": old}]}
    assert current(settings) == {
        "task": {"ensemble": {"_target_": MOVED[old]}, "note": old},
        "list": [{"model._target_": MOVED[old]}],
    }
    assert "motion" not in json.dumps(str(load_config(OLD / "md")))
