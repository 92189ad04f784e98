"""Commands and Python code in README.md work as printed: they are composed and checked, without the long work."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.io import write
from omegaconf import OmegaConf

import fusion
from fusion import app, zoo
from fusion.app import execution
from fusion.config import compose as trees
from fusion.runs.results import Result
from fusion.zoo import store
from processes import Program

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    re.split(r"\s{2,}|\s#", line)[0]
    for language, block in BLOCKS
    if not language
    for line in block.splitlines()
    if line.startswith(("fusion ", "./tools/run "))
]
PYTHON = [block for language, block in BLOCKS if language == "python" and not block.startswith("# mymethod")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the files of a training of a small ANI that `fusion zoo add` reads."""
    directory = tmp_path_factory.mktemp("trained")
    words = [
        "+method=ani",
        "weights=null",
        "task=train",
        "data=file",
        "data.path=FILE.extxyz",
        "method.model.members=2",
    ]
    words += [f"method.model.hidden.{element}=[4]" for element in ("H", "C", "N", "O", "S", "F", "Cl")]
    config = app.resolved(trees.compose(words)[0], directory)
    OmegaConf.save(config, directory / "config.yaml")
    document = '{"schema": 1, "status": "ok", "kind": "potential", "method": "ani", "training": {"parts": {}}}'
    (directory / "result.json").write_text(document)
    from fusion.methods import protocol

    model = protocol.build(config.method).model
    (directory / "checkpoints").mkdir()
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": state}, directory / "checkpoints" / "last.ckpt")
    return directory


@pytest.fixture
def files(tmp_path: Path, zoo_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directory with the files that README mentions, its own cache, and a substitute for NWChem."""
    monkeypatch.chdir(tmp_path)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "models").symlink_to(zoo_cache / "models")
    monkeypatch.setenv("FUSION_CACHE", str(cache))
    for name in ("aspirin.xyz", "guess.xyz", "h2o.xyz"):
        write(name, molecule("H2O" if name == "h2o.xyz" else "CH3CH2OH"))
    write("h2.xyz", molecule("H2"))
    box = molecule("H2O")
    box.set_cell([12.0, 12.0, 12.0])
    box.pbc = True
    write("box.xyz", box, format="extxyz")
    frames = []
    for index in range(20):
        frame = molecule("CH3CH2OH")
        frame.rattle(0.02, seed=index)
        frame.info["energy"] = -4200.0 + 0.01 * index
        frame.info["dipole"] = [0.1, 0.2, 0.01 * index]
        frames.append(frame)
    write("FILE.extxyz", frames, format="extxyz")
    write("molecules.extxyz", frames[:3], format="extxyz")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "nwchem").write_text("#!/bin/sh\nexit 1\n")
    (programs / "nwchem").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    return tmp_path


@pytest.fixture
def checked_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop runs before their calculation, after everything has been composed, built and checked."""

    def calculated(run: Any, method: Any, system: Any, *rest: Any) -> Result:
        return Result(system, energy=-1.0, energy_stderr=0.1)

    monkeypatch.setattr(execution, "_calculated", calculated)


def test_the_readme_has_commands() -> None:
    assert len(COMMANDS) > 25 and len(PYTHON) == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_works_as_printed(
    command: str, program: Program, files: Path, checked_only: None, trained: Path
) -> None:
    given = re.sub(r"\bFILE(?!\.)\b", "FILE.extxyz", command).replace("RUN_DIR", str(trained))
    if "weights=mine" in command:
        assert program("zoo", "add", str(trained), "--name", "mine").status == 0
    done = program(*shlex.split(given)[1:])
    if "pip install" in done.err or "FUSION_OFFLINE forbids downloading" in done.err:
        pytest.skip(done.err)
    assert done.status == 0 and not done.err, done.err
    assert done.out


@pytest.mark.parametrize("block", PYTHON)
def test_a_piece_of_python_works_as_printed(
    block: str, files: Path, checked_only: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyscf import gto

    from fusion.functionals.scf.mean_field import LearnedRKS

    load: Callable[[str], Any] = zoo.load
    blank = store.blank(zoo.find("dm21"), {torch.float64}).eval().requires_grad_(False)
    monkeypatch.setattr(zoo, "load", lambda name: blank if name.startswith("dm21") else load(name))
    monkeypatch.setattr(LearnedRKS, "kernel", lambda self: None)
    names = {
        "fusion": fusion,
        "mol": gto.M(atom="H 0 0 0; H 0 0 0.74", verbose=0),
        "atoms": Atoms("H2O", [[0, 0, 0], [0, 0, 1], [0, 1, 0]]),
    }
    exec(block, names)
    if "atoms.calc" in block:
        assert names["atoms"].get_potential_energy() < 0
