"""Tiny runs of a wavefunction that stop themselves at a chosen place, by a signal that cannot be caught."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch

import processes
from processes import Done
from resuming import Stop, assert_same_result, before, differences, start

TINY = (
    "+method=ferminet",
    "system=h2",
    "method.walkers=16",
    "method.model.one_electron=8",
    "method.model.two_electron=4",
    "method.model.layers=2",
    "method.model.determinants=2",
    "method.pretraining.steps=12",
    "method.sampling.burn_in=20",
    "method.optimisation.steps=13",
    "method.evaluation.steps=12",
    "method.evaluation.spin_every=5",
    "callbacks.checkpoint.every_n_steps=5",
    "hydra.run.dir=run",
)


def at(place: str, call: int, by: signal.Signals = signal.SIGKILL) -> Stop:
    """Stop before call number `call` (from 0) of `place`.

    Places: `step` (amid the moves of an iteration), `saving` (a checkpoint half written), `renaming` (written, not yet
    under its name), `logging` (a row half written), `result` (all done but the result).
    """
    function, act = {
        "step": ("fusion.wavefunctions.vmc:VariationalMonteCarlo.training_step", amid_a_move),
        "saving": ("fusion.runs.checkpoints:torch.save", half_a_checkpoint),
        "renaming": ("fusion.files.atomic:os.replace", None),
        "logging": ("fusion.runs.metrics:MetricsFile.log_metrics", half_a_row),
        "result": ("fusion.app.execution:write_result", None),
    }[place]
    return Stop(function, call, by, act)


def amid_a_move(stop: Stop, *args: Any) -> None:
    """Stop at the next random number."""
    before(torch, "rand", 0, stop.now)


def half_a_checkpoint(stop: Stop, save: Any, content: Any, file: Any) -> None:
    """Write half of the file and stop."""
    save(content, file)
    file.truncate(file.tell() // 2)
    stop.now()


def half_a_row(stop: Stop, log: Any, table: Any, *args: Any) -> None:
    """Write half of a row and stop."""
    with table.path.open("a") as file:
        file.write("7,optimi")
    stop.now()


class Ended(Done):
    """Exit status (negative: the signal) and what was printed."""

    @property
    def complete(self) -> bool:
        """True if there is a result; after so short a run it need not have converged."""
        return self.status in (0, 1) and "result.json" in self.out and self.err == ""


def fusion(directory: Path, *words: str, stop: Stop | None = None, environment: dict[str, str] | None = None) -> Ended:
    """Run `fusion WORDS` in `directory`, which is created if needed."""
    return _ended(start(directory, words, stop, os.environ | (environment or {})).done())


def ranks(directory: Path, *words: str, stop: Stop | None = None) -> list[Ended]:
    """Run `fusion WORDS` in two processes at once, in torchrun's environment; `stop` is for the last."""
    return list(map(_ended, processes.ranks(directory, *words, before=None if stop is None else stop.arm)))


def checkpoint(run: Path) -> dict[str, Any]:
    """Parameters of the wavefunction and state of the Monte Carlo in the last checkpoint."""
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return {"parameters": content["state_dict"], **content["vmc"]}


def assert_same(left: Path, right: Path) -> None:
    """Two finished runs agree in result, table, parameters, walkers and random states, to the last bit."""
    assert_same_result(left, right, ["metrics.csv"])
    assert differences(checkpoint(left), checkpoint(right)) == []


def _ended(done: Done) -> Ended:
    return Ended(done.status, done.out, done.err)
