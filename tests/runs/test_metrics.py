"""metrics.csv: order of columns, rows of resumed runs, and values for other loggers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fusion.errors import InputError
from fusion.runs import metrics
from fusion.runs.metrics import MetricsFile


def write(file: MetricsFile, first: int, last: int) -> None:
    for step in range(first, last):
        phase = (
            {"phase": "pretrain", "loss": 1 / (step + 1)} if step < 3 else {"phase": "optimise", "energy": -0.1 * step}
        )
        file.log_metrics({**phase, "spin": 0.5 if step == 5 else None}, step)


def test_columns_are_in_order_of_first_use(tmp_path: Path) -> None:
    write(MetricsFile(tmp_path), 0, 7)
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines[0] == "step,phase,loss,energy,spin" and len(lines) == 8
    assert lines[1] == "0,pretrain,1.0,," and lines[6] == "5,optimise,,-0.5,0.5"


@pytest.mark.parametrize("kept", [0, 2, 4, 6])
def test_a_resumed_run_writes_the_same_file(tmp_path: Path, kept: int) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for directory in (whole, stopped):
        directory.mkdir()
        write(MetricsFile(directory), 0, 7)
    file = stopped / "metrics.csv"
    file.write_text(file.read_text() + "7,optim")  # killed while writing
    again = MetricsFile(stopped)
    again.keep(kept)
    assert again.rows == kept
    write(again, kept, 7)
    assert file.read_bytes() == (whole / "metrics.csv").read_bytes()


def test_a_second_trainer_continues_the_file(tmp_path: Path) -> None:
    write(MetricsFile(tmp_path), 0, 4)
    write(MetricsFile(tmp_path), 4, 7)
    assert (tmp_path / "metrics.csv").read_text().count("\n") == 8
    assert MetricsFile(tmp_path).rows == 7


def test_other_loggers_get_numbers_under_their_phase(tmp_path: Path) -> None:
    class Other:
        seen: Any = None

        def log_metrics(self, values: dict[str, float], step: int) -> None:
            self.seen = (values, step)

    other, file = Other(), MetricsFile(tmp_path)
    metrics.log(SimpleNamespace(loggers=[file, other]), {"phase": "evaluate", "energy": -1, "spin": None}, 3)  # type: ignore[arg-type]
    assert other.seen == ({"evaluate/energy": -1.0}, 3)
    assert (tmp_path / "metrics.csv").read_text() == "step,phase,energy\n3,evaluate,-1\n"


def test_wandb_is_offline_without_an_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not metrics._has_wandb_account()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password x\n")
    (tmp_path / "netrc").chmod(0o600)
    assert metrics._has_wandb_account()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not metrics._has_wandb_account()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert metrics._has_wandb_account()


def test_missing_tensorboard_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for library in ("TENSORBOARD", "TENSORBOARDX"):
        monkeypatch.setattr(f"lightning_fabric.loggers.tensorboard._{library}_AVAILABLE", False)
    with pytest.raises(InputError, match=r"pip install 'aiqm-fusion\[tensorboard\]'"):
        metrics.tensorboard_logger(str(tmp_path))
