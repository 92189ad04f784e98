"""Loggers of a wavefunction's run besides metrics.csv; they write into the run's directory and need no account."""

from __future__ import annotations

from pathlib import Path

import pytest

from killable import TINY, fusion


def test_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert fusion(tmp_path, *TINY, "logger=tensorboard").complete
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    steps = {name: [event.step for event in events.Scalars(name)] for name in events.Tags()["scalars"]}
    assert steps["pretrain/loss"] == list(range(12))
    assert steps["optimise/energy"] == list(range(12, 25))
    assert steps["evaluate/spin_squared"] == [25, 30, 35]
    assert "one_electron: 8" in (tmp_path / "run" / "tensorboard" / "hparams.yaml").read_text()
    assert (tmp_path / "run" / "metrics.csv").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow
def test_wandb_offline(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    ended = fusion(tmp_path / "place", *TINY, "logger=wandb", environment={"HOME": str(home), "WANDB_API_KEY": ""})
    assert ended.complete, ended
    (record,) = (tmp_path / "place" / "run" / "wandb").glob("offline-run-*/*.wandb")
    content = record.read_bytes()
    assert all(word in content for word in (b"pretrain/loss", b"optimise/energy", b"evaluate/energy", b"one_electron"))
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["run"]
