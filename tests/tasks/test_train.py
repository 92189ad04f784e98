"""Refusals before a training begins, in one line that states the right setting."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.runs.run import Run
from fusion.tasks.train.task import Train
from fusion.wavefunctions import AnsatzMethod
from fusion.wavefunctions.checkpoint import identity
from fusion.wavefunctions.training import WavefunctionEvaluation, WavefunctionTraining

LITHIUM_HYDRIDE = System("lih", ("Li", "H"), np.array([[0, 0, 0], [0, 0, 3.015]]))
HELIUM = System("he", ("He",), np.zeros((1, 3)))


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("WORLD_SIZE", "SLURM_NTASKS"):
        monkeypatch.delenv(variable, raising=False)


def method(**model: Any) -> AnsatzMethod:
    network = {"one_electron": 8, "two_electron": 3, "layers": 2, "determinants": 1, **model}
    return AnsatzMethod(
        name="ferminet",
        model={"_target_": "fusion_ferminet.network.FermiNet", **network},
        walkers=64,
        chunk=None,
        pretraining={"steps": 5, "learning_rate": 1e-3, "basis": None},
        sampling={"burn_in": 10, "moves": 2},
        optimisation={"steps": 5, "clip": 5.0},
        optimiser={},
        evaluation={"steps": 5, "moves": 2, "spin_every": 5},
    )


def run(checkpoint: Path | None = None, **config: Any) -> Run:
    settings = OmegaConf.create({"trainer": {"accelerator": "cpu", "devices": 1}, "weights": None, **config})
    return Run(Path("nowhere"), settings, checkpoint, 0, Path.cwd())


def saved(path: Path, system: System, **model: Any) -> Path:
    """Write the part of a checkpoint that is checked before a run begins."""
    other = method(**model)
    own_identity = identity(system, other.ansatz(system), other.settings)
    done = {"pretraining": 5, "optimising": 3, "evaluating": 0}
    torch.save({"vmc": {"identity": own_identity, "done": done}}, path)
    return path


def test_a_good_run_is_checked_without_writing_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = Train()
    plan = task.check(method(), LITHIUM_HYDRIDE, run())
    parts, notes = task.title(plan, run())
    assert "64 walkers" in parts and any("LiH" in part for part in parts)
    assert any("memory" in note for note in notes)
    assert list(tmp_path.iterdir()) == []


def test_other_kinds_of_method_have_nothing_to_optimise() -> None:
    other: Any = SimpleNamespace(kind="conventional", name="ccsd")
    with pytest.raises(InputError, match="ccsd is conventional: use task=energy for it"):
        Train().check(other, HELIUM, run())


@pytest.mark.parametrize(("devices", "fit"), [(3, "63"), (5, "65"), (100, "100")])
def test_walkers_that_ranks_cannot_share(devices: int, fit: str) -> None:
    with pytest.raises(InputError, match=rf"method.walkers=64 cannot be divided among {devices} ranks; use {fit}"):
        Train().check(method(), HELIUM, run(trainer={"accelerator": "cpu", "devices": devices}))


def test_ranks_are_counted_as_the_launcher_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "7")
    with pytest.raises(InputError, match="7 ranks"):
        Train().check(method(), HELIUM, run())
    with pytest.raises(InputError, match="6 ranks"):
        monkeypatch.setenv("WORLD_SIZE", "6")
        Train().check(method(), HELIUM, run())


def test_evaluation_needs_a_wavefunction() -> None:
    with pytest.raises(InputError, match="ckpt="):
        WavefunctionEvaluation().check(method(), HELIUM, run())


def test_the_checkpoint_of_the_same_wavefunction_is_taken(tmp_path: Path) -> None:
    path = saved(tmp_path / "last.ckpt", LITHIUM_HYDRIDE)
    for task in (WavefunctionTraining(), WavefunctionEvaluation()):
        assert task.check(method(), LITHIUM_HYDRIDE, run(path)).done["optimising"] == 3


@pytest.mark.parametrize(
    ("system", "model", "said"),
    [
        (HELIUM, {}, "another system: formula"),
        (
            System("ion", ("Li", "H"), LITHIUM_HYDRIDE.positions, charge=1, spin=1),
            {},
            "another system: charge is 1 there, 0",
        ),
        (System("triplet", ("Li", "H"), LITHIUM_HYDRIDE.positions, 0, 2), {}, "another system: spin is 2 there, 0"),
        (LITHIUM_HYDRIDE, {"determinants": 2}, "another network: "),
        (LITHIUM_HYDRIDE, {"layers": 3}, "another network: "),
        (LITHIUM_HYDRIDE, {"rescale_inputs": True}, "another network: "),
    ],
)
def test_foreign_checkpoints(tmp_path: Path, system: Any, model: Any, said: str) -> None:
    path = saved(tmp_path / "last.ckpt", system, **model)
    with pytest.raises(InputError, match=said) as error:
        Train().check(method(), LITHIUM_HYDRIDE, run(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", {"state_dict": {}}, {"code": Path("x")}])
def test_files_that_are_not_checkpoints_of_a_wavefunction(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "last.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(InputError, match=r"last\.ckpt is not a"):
        Train().check(method(), LITHIUM_HYDRIDE, run(path))


def test_a_truncated_checkpoint(tmp_path: Path) -> None:
    path = saved(tmp_path / "last.ckpt", LITHIUM_HYDRIDE)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="checkpoint"):
        Train().check(method(), LITHIUM_HYDRIDE, run(path))
