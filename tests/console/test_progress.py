"""Progress bar inside real Trainers, and its line in a terminal of any width."""

from __future__ import annotations

import io
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from rich.console import Console

from fusion.console import phases
from fusion.console.phases import State
from fusion.console.progress import PhaseProgress


class Phases(pl.LightningModule):
    """Module with four steps of pretraining and six of optimisation, starting at step `done`."""

    def __init__(self, done: int = 0) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.done = done

    phase = property(lambda self: "pretraining" if self.done < 4 else "optimising")
    phase_step = property(lambda self: self.done if self.done < 4 else self.done - 4)
    phase_total = property(lambda self: 4 if self.done < 4 else 6)
    phase_text = property(lambda self: f"after {self.done}")

    def training_step(self, batch: Any, index: int) -> None:
        self.done += 1
        if self.done == 7:
            self.print("a remark")

    def configure_optimizers(self) -> None:
        return None


class Supervised(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        loss = self.layer(batch).square().mean()
        self.log("loss", 0.5, prog_bar=True)
        return loss

    def validation_step(self, batch: torch.Tensor, index: int) -> None:
        self.log("val_loss", 0.25, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(**options: Any) -> pl.Trainer:
    off: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    return pl.Trainer(accelerator="cpu", callbacks=[PhaseProgress()], **off, **options)


def batches(number: int) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(torch.ones(number, 1))  # type: ignore[arg-type]


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_phases_are_shown_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    trainer(max_epochs=1).fit(Phases(), batches(10))
    lines = words(capsys.readouterr().out)
    assert lines[0] == ["pretraining", "0/4", "after", "0"]
    assert [line[:2] for line in lines] == [
        ["pretraining", "0/4"], ["pretraining", "4/4"], ["optimising", "0/6"], ["a", "remark"], ["optimising", "6/6"],
    ]  # fmt: skip
    assert lines[-1] == ["optimising", "6/6", "after", "10", "0:00:00"]


def test_a_resumed_run_continues_its_progress(capsys: pytest.CaptureFixture[str]) -> None:
    trainer(max_epochs=1).fit(Phases(done=7), batches(3))
    assert words(capsys.readouterr().out)[0][:2] == ["optimising", "3/6"]


def test_progress_of_any_module(capsys: pytest.CaptureFixture[str]) -> None:
    run, module = trainer(max_epochs=2), Supervised()
    run.fit(module, batches(5), batches(2))
    run.validate(module, batches(3), verbose=False)
    lines = words(capsys.readouterr().out)
    assert [line[:2] for line in lines] == [
        ["training", "0/10"], ["training", "10/10"], ["validating", "1/3"], ["validating", "3/3"],
    ]  # fmt: skip
    assert " ".join(lines[1][2:-1]) == "epoch 2/2 loss 0.5 val_loss 0.25"


def test_an_interrupted_run_keeps_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    class Stopped(Phases):
        def training_step(self, batch: Any, index: int) -> None:
            super().training_step(batch, index)
            if self.done == 8:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        trainer(max_epochs=1).fit(Stopped(done=4), batches(6))
    assert words(capsys.readouterr().out)[-1][:2] == ["optimising", "3/6"]


def test_other_ranks_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    bar = PhaseProgress()
    bar.disable()
    bar.show(Phases())
    bar.print("nothing")
    assert capsys.readouterr().out == "" and not bar.is_enabled


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_the_line_fits_a_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(width=width, force_terminal=True, color_system=None, file=io.StringIO())
    monkeypatch.setattr(phases, "console", lambda: screen)
    bar = PhaseProgress()
    bar.show(Phases(done=6))
    bar._last = State("optimising", 1500, 1500, "E = -8.0700(4) Ha  var 0.007  accept 53 %")
    bar.close()
    last = screen.file.getvalue().split("\x1b[2K")[-1].splitlines()[0]  # type: ignore[attr-defined]
    assert len(last.rstrip()) <= width and last.startswith("optimising  ━") and "1500/1500  E = -8.0700(4) Ha" in last
    assert width < 100 or last.rstrip().endswith("accept 53 %  0:00:00")
