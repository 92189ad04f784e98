"""task=dmc as users run it: after a training, from a checkpoint, killed and resumed, and refused."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from killable import TINY, assert_same, at, fusion
from resuming import differences, document, killed_and_resumed

DIFFUSION = (*TINY, "task=dmc", "task.steps=60", "task.equilibration=10", "+estimator=density")


@pytest.fixture(scope="module")
def diffused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a run that trains and diffuses."""
    place = tmp_path_factory.mktemp("diffused")
    assert fusion(place, *DIFFUSION).complete
    return place / "run"


def state(run: Path) -> object:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["dmc"]


def test_the_result_has_every_time_step_and_the_extrapolation(diffused: Path) -> None:
    dmc = document(diffused)["dmc"]
    assert [step["time_step_per_hartree"] for step in dmc["time_steps"]] == [0.02, 0.01]
    assert document(diffused)["energy"]["value"] == dmc["time_steps"][1]["energy_hartree"]
    assert dmc["extrapolated"]["stderr_hartree"] > dmc["time_steps"][1]["stderr_hartree"]


def test_the_density_of_the_wavefunction_is_written(diffused: Path) -> None:
    assert (diffused / "density.cube").is_file() and (diffused / "density.png").is_file()


@pytest.mark.slow
def test_killed_twice_while_diffusing(diffused: Path, tmp_path: Path) -> None:
    """37 iterations of training, then 6 blocks for each of two time steps; a checkpoint after every 5."""
    (_, resumed) = killed_and_resumed(tmp_path, DIFFUSION, [at("step", 41), at("step", 6)])
    assert resumed.status in (0, 1) and resumed.err == "", resumed
    assert "resuming from step 20 of 60 of diffusing 0.01 1/Ha" in resumed.out
    assert_same(diffused, tmp_path / "run")
    assert differences(state(diffused), state(tmp_path / "run")) == []


def test_a_checkpoint_is_diffused_without_further_optimisation(diffused: Path, tmp_path: Path) -> None:
    words = (*DIFFUSION, f"ckpt={diffused}", "task.time_steps=[0.05]", "method.optimisation.steps=99")
    ended = fusion(tmp_path, *words)
    assert ended.complete, ended
    result = document(tmp_path / "run")
    assert result["vmc"]["optimisation"]["iterations"] == 13 and len(result["dmc"]["time_steps"]) == 1


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (DIFFUSION, True),
        ([word.replace("walkers=16", "walkers=8") for word in DIFFUSION], False),
        ([word for word in DIFFUSION if word != "+estimator=density"], False),
    ],
)
def test_the_evaluation_of_another_run_counts_if_it_is_the_same(
    diffused: Path, tmp_path: Path, words: Sequence[str], kept: bool
) -> None:
    ended = fusion(tmp_path, *words, f"ckpt={diffused}", "task.time_steps=[0.05]")
    assert ended.complete and ("with its evaluation of" in ended.out) == kept, ended
    before, after = (document(run)["dmc"]["variational"] for run in (diffused, tmp_path / "run"))
    assert (before == after) == kept
    assert (",evaluate," in (tmp_path / "run" / "metrics.csv").read_text()) != kept


def test_diffusion_begins_anew_if_the_wavefunction_is_optimised_further(diffused: Path, tmp_path: Path) -> None:
    shutil.copytree(diffused, tmp_path / "run")
    before = document(diffused)["dmc"]["time_steps"]
    further = fusion(tmp_path, *DIFFUSION, "method.optimisation.steps=16", "ckpt=last")
    assert further.complete and "resuming from step 13 of 16" in further.out, further
    result = document(tmp_path / "run")
    assert result["vmc"]["optimisation"]["iterations"] == 16
    assert all(
        new["energy_hartree"] != old["energy_hartree"]
        for new, old in zip(result["dmc"]["time_steps"], before, strict=True)
    )


def test_diffusion_goes_on_in_double_precision(diffused: Path, tmp_path: Path) -> None:
    shutil.copytree(diffused, tmp_path / "run")
    further = fusion(tmp_path, *DIFFUSION, "task.steps=80", "dtype=float64", "ckpt=last")
    assert further.complete, further


def test_time_steps_that_leave_no_walker_are_one_line(diffused: Path, tmp_path: Path) -> None:
    ended = fusion(tmp_path, *DIFFUSION, f"ckpt={diffused}", "task.time_steps=[1e9]")
    assert ended.status == 1 and "the diffusion at time step 1e+09 has weights that are all zero" in ended.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("task.time_steps=[0.01,-1]",), "task.time_steps: each time step (1/hartree) must be a positive number"),
        (("task.time_steps=0.01",), "task.time_steps must be a list such as [0.02,0.01]"),
        (("task.time_steps=[0.01,0.01]",), "has a time step twice"),
        (("task.time_steps=[]",), "task.time_steps is empty"),
        (("task.equilibration=55",), "task.equilibration=55 must leave at least 10 of task.steps=60"),
        (("task.steps=3",), "task.steps must be a whole number of at least 20"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    ended = fusion(tmp_path, *DIFFUSION, *words)
    assert ended.status == 2 and message in ended.err and len(ended.err.strip().splitlines()) == 1


def test_core_potentials_are_refused(tmp_path: Path) -> None:
    ended = fusion(tmp_path, "+method=ferminet", "system=li", "system.ecp=ccecp", "task=dmc", "hydra.run.dir=run")
    assert ended.status == 2 and "cannot branch with the signs of effective core potentials" in ended.err
