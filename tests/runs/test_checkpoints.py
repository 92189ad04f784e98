"""Checkpoints are written completely or not at all; available loggers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fusion.errors import InputError
from fusion.runs.checkpoints import AtomicCheckpointIO, SaveLast
from processes import Program

FIT = ("+method=toy", "task=fit", "task.steps=20", "hydra.run.dir=r")


class Unwritable:
    """Object that fails in the middle of a checkpoint, like a full disk."""

    def __reduce__(self) -> str:
        raise OSError("no space left on device")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path, io = tmp_path / "checkpoints" / "last.ckpt", AtomicCheckpointIO()
    io.save_checkpoint({"step": 1, "weights": torch.ones(3)}, path)
    with pytest.raises(OSError, match="no space"):
        io.save_checkpoint({"weights": torch.zeros(1000), "step": Unwritable()}, path)
    assert torch.load(path, weights_only=True)["step"] == 1
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_batches_are_counted_over_restarts() -> None:
    before = SaveLast(every_n_steps=5)
    before.batches = 12
    after = SaveLast(every_n_steps=5)
    after.load_state_dict(before.state_dict())
    assert after.batches == 12
    with pytest.raises(InputError, match="every_n_steps must be a whole number of at least 1, not 0"):
        SaveLast(every_n_steps=0)


def test_checkpoints_load_as_plain_data(program: Program, tmp_path: Path) -> None:
    assert program(*FIT).status == 0
    content = torch.load(tmp_path / "r" / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["fusion_metrics_rows"] == {"rows": 20}


def test_tensorboard_is_written_beside_the_table(program: Program, tmp_path: Path) -> None:
    done = program(*FIT, "logger=tensorboard")
    assert done.status == 0 and done.err == ""
    assert list((tmp_path / "r" / "tensorboard").glob("events*"))
    assert (tmp_path / "r" / "metrics.csv").read_text().count("\n") == 21


@pytest.mark.slow
def test_wandb_works_without_an_account(process: Program, environment: dict[str, str], tmp_path: Path) -> None:
    environment.pop("WANDB_API_KEY", None)
    environment["NETRC"] = str(tmp_path / "none")
    done = process("-m", *FIT[:3], "logger=wandb", "seed=1,2", "hydra.sweep.dir=s")
    assert done.status == 0 and done.err == ""
    assert len(list((tmp_path / "s").glob("*/wandb/offline-run-*"))) == 2


def test_a_trainer_setting_that_lightning_refuses_is_one_line(program: Program, tmp_path: Path) -> None:
    done = program(*FIT, "trainer.devices=0", "trainer.accelerator=cpu")
    assert done.status == 2 and done.err.startswith("error: trainer: ") and len(done.err.splitlines()) == 1
    done = program(*FIT, "+trainer.speed=9")
    assert done.status == 2 and "speed" in done.err and len(done.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
