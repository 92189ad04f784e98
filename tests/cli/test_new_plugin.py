"""`fusion new-plugin`: the package it writes can be built, installed, discovered and used."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion.chemistry.system import System
from fusion.cli.new_plugin import KINDS, write
from fusion.errors import InputError
from fusion.potentials import SelfEnergies, collate
from processes import Program

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


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_passes_its_own_tests_and_the_contract(
    installed: Install, environment: dict[str, str], tmp_path: Path, kind: str
) -> None:
    program = installed("my_model", kind)
    assert "my_model" in program("methods").out
    checked = program("plugins", "check", "my_model")
    assert checked.status == 0 and "FAILS" not in checked.out, checked.out
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path / "fusion-my-model"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tests.returncode == 0, tests.stdout


def test_a_new_potential_is_trained_and_used_from_the_run_directory(installed: Install, tmp_path: Path) -> None:
    program = installed("my_pair", "potential")
    data = tmp_path / "fusion-my-pair" / "data" / "water.extxyz"
    short = ("method.training.epochs=30", "method.training.learning_rate=5e-2", "trainer.devices=1")
    trained = program("+method=my_pair", "task=train", f"data={data}", *short, "hydra.run.dir=trained")
    assert trained.status == 0, trained.err
    assert "verdict" in trained.out and "learned: the error is" in trained.out, trained.out
    used = program("+method=my_pair", "weights=trained", "hydra.run.dir=used")
    assert used.status == 0, used.err
    document = json.loads((tmp_path / "used" / "result.json").read_text())
    assert document["weights"]["name"].startswith("trained-") and -76.2 < document["energy"]["value"] < -75.8


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_package_has_all_that_a_repository_needs(kind: str, tmp_path: Path) -> None:
    package = write("mine", kind, tmp_path)
    files = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert {"LICENSE", "README.md", ".gitignore", ".github/workflows/test.yml", "tests/test_mine.py"} <= files
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    (requirement,) = project["dependencies"]
    assert requirement.startswith("aiqm-fusion>=") and ",<" in requirement
    workflow = (package / ".github/workflows/test.yml").read_text()
    assert "${{ matrix.python }}" in workflow and "fusion plugins check fusion_mine" in workflow
    assert sum((package / name).stat().st_size for name in files) < 100_000
    for name in files:
        assert "$name" not in (package / name).read_text() and "$kind" not in (package / name).read_text()


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
    model = runpy.run_path(str(source))["Model"](["H", "O"], cutoff=12.0).double()
    fluid = [System("oh2", ("O", "H", "H"), np.array([[0, 0, 0], [1.8, 0, 0], [-1.8, 0, 0]]))] * 3  # type: ignore[list-item]
    before = model(collate(fluid)).energy
    assert isinstance(model.self_energies, SelfEnergies) and model.elements == ("H", "O")
    model.self_energies.values.copy_(torch.tensor([-0.5, -75.0]))
    torch.testing.assert_close(
        model.float()(collate(fluid, torch.float32)).energy.double(), before - 76.0, atol=1e-5, rtol=0
    )


def test_the_guide_shows_what_the_templates_have() -> None:
    """Signatures in the examples of docs/plugins.md are those of the templates, which the slow tests run."""
    repository = Path(__file__).parents[2]
    guide = (repository / "docs" / "plugins.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    for kind, block in zip(KINDS, blocks, strict=True):
        template = (repository / "tools" / "plugin_template" / kind / "model.py").read_text()
        signatures = re.findall(r"def (?:forward|energy_density)\(.*?\) -> [^:]*:", block)
        assert signatures and all(signature in template for signature in signatures), kind
