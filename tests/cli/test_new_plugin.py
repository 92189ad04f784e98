"""`fusion new-plugin`: the package it writes can be built, installed, discovered and used."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion.chemistry.system import System
from fusion.cli.new_plugin import KINDS, write
from fusion.errors import InputError
from fusion.potentials import SelfEnergies, collate
from processes import Done, Program

Install = Callable[[str, str], Program]


@pytest.fixture
def installed(process: Program, environment: dict[str, str], tmp_path: Path) -> Install:
    """Write and install a plugin; return a program that has it."""

    def make(name: str, kind: str) -> Program:
        assert process("new-plugin", name, "--kind", kind).status == 0
        package = tmp_path / f"fusion-{name.replace('_', '-')}"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
        subprocess.run([*pip, "--target", tmp_path / "site", package], check=True, capture_output=True)
        environment["PYTHONPATH"] += f":{tmp_path / 'site'}"
        return process

    return make


def test_a_new_potential_is_installed_and_runs(installed: Install, environment: dict[str, str], tmp_path: Path) -> None:
    program = installed("my_pair", "potential")
    assert "my_pair" in program("methods").out
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path / "fusion-my-pair"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tests.returncode == 0, tests.stdout


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("functional", ("system=he", "method.basis=6-31g", "method.grid_level=1")),
        (
            "ansatz",
            ("method.pretraining.steps=0", "method.optimisation.steps=3", "method.evaluation.steps=40"),
        ),
    ],
)
def test_plugins_of_other_kinds_run(installed: Install, tmp_path: Path, kind: str, words: tuple[str, ...]) -> None:
    done: Done = installed("mine", kind)("+method=mine", *words, "hydra.run.dir=r")
    assert (tmp_path / "r" / "result.json").is_file() and done.status in (0, 1), done.err
    assert "Traceback" not in done.err


def test_wrong_plugin_names_are_refused(with_toy: None, tmp_path: Path) -> None:
    for name, kind, message in [
        ("My-Plugin", "ansatz", "a plugin's name"),
        ("new", "anzats", "no kind 'anzats'. Did you mean 'ansatz'?"),
        ("toy", "ansatz", "there is a method 'toy' already"),
    ]:
        with pytest.raises(InputError, match=message.replace("?", r"\?")):
            write(name, kind, tmp_path)
    for kind in KINDS:
        write(f"of_{kind}", kind, tmp_path)
        with pytest.raises(InputError, match="exists already"):
            write(f"of_{kind}", kind, tmp_path)


def test_the_template_potential_has_self_energies_that_training_fits() -> None:
    """Without self energies a first training on total energies would have to learn thousands of kcal/mol."""
    source = Path(__file__).parents[2] / "tools/plugin_template/potential/model.py"
    model = runpy.run_path(str(source))["Model"](["H", "O"], depth=0.2, width=1.0, distance=1.8, cutoff=20.0)
    fluid = [System("oh2", ("O", "H", "H"), np.array([[0, 0, 0], [1.8, 0, 0], [-1.8, 0, 0]]))] * 3  # type: ignore[list-item]
    before = model(collate(fluid)).energy
    assert isinstance(model.self_energies, SelfEnergies) and model.elements == ("H", "O")
    model.self_energies.values.copy_(torch.tensor([-0.5, -75.0]))
    torch.testing.assert_close(model.float()(collate(fluid)).energy.double(), before - 76.0, atol=1e-5, rtol=0)
