"""Files that the commands in README and docs/ mention, and runs that end before the long work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ase.build import molecule
from ase.io import write
from omegaconf import OmegaConf

from fusion import app
from fusion.app import execution
from fusion.config import compose as trees
from fusion.runs.results import Result
from fusion.runs.task import Plan


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
    for path, content in (("label/labels.extxyz", frames), ("ts/ts.xyz", frames[0])):  # results of earlier commands
        Path(path).parent.mkdir()
        write(path, content, format="extxyz")
    write("anti.xyz", frames[0])
    write("gauche.xyz", frames[1])
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "nwchem").write_text("#!/bin/sh\nexit 1\n")
    (programs / "nwchem").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    return tmp_path


@pytest.fixture
def checked_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop runs before their calculation, after everything has been composed, built and checked."""

    def calculated(run: Any, task: Any, plan: Plan, *rest: Any) -> Result:
        return Result(plan.system, energy=-1.0, energy_stderr=0.1)

    monkeypatch.setattr(execution, "_calculated", calculated)
