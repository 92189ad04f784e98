"""Tiny runs of a wavefunction that stop themselves at a chosen place, by a signal that cannot be caught."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from processes import Done, Running

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


@dataclass(frozen=True)
class Stop:
    """Place at which a process ends itself by the signal `by`: before call number `call` (from 0) of `place`.

    Places: `step` (amid the moves of an iteration), `saving` (a checkpoint half written), `renaming` (written, not yet
    under its name), `logging` (a row half written), `result` (all done but the result).
    """

    place: str
    call: int
    by: signal.Signals = signal.SIGKILL


class Ended(Done):
    """Exit status (negative: the signal) and what was printed."""

    @property
    def complete(self) -> bool:
        """True if there is a result; after so short a run it need not have converged."""
        return self.status in (0, 1) and "result.json" in self.out and self.err == ""


def fusion(directory: Path, *words: str, stop: Stop | None = None, environment: dict[str, str] | None = None) -> Ended:
    """Run `fusion WORDS` in `directory`, which is created if needed."""
    return _ended(_start(directory, words, stop, environment or {}))


def ranks(directory: Path, *words: str, number: int = 2, stop: Stop | None = None) -> list[Ended]:
    """Run `fusion WORDS` in several processes at once, in torchrun's environment; `stop` is for the last."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(number):
        environment = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(number),
            "LOCAL_WORLD_SIZE": str(number),
            "GROUP_RANK": "0",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_RUN_ID": "test",
            "TORCHELASTIC_USE_AGENT_STORE": "False",
        }
        started.append(_start(directory, words, stop if rank == number - 1 else None, environment))
    return [_ended(running) for running in started]


def document(run: Path) -> dict[str, Any]:
    """result.json without the time it took and the settings."""
    content: dict[str, Any] = json.loads((run / "result.json").read_text())
    del content["timing"], content["settings"]
    return content


def checkpoint(run: Path) -> dict[str, Any]:
    """Parameters of the wavefunction and state of the Monte Carlo in the last checkpoint."""
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return {"parameters": content["state_dict"], **content["vmc"]}


def differences(left: Any, right: Any, path: str = "") -> list[str]:
    """Places at which two nested containers of numbers and tensors are not equal in every bit."""
    if isinstance(left, dict) and isinstance(right, dict):
        keys = sorted(set(left) | set(right), key=str)
        return [d for key in keys for d in differences(left.get(key), right.get(key), f"{path}/{key}")]
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)) and len(left) == len(right):
        return [d for i, pair in enumerate(zip(left, right, strict=True)) for d in differences(*pair, f"{path}/{i}")]
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        return [] if left.dtype == right.dtype and torch.equal(left, right) else [path]
    return [] if repr(left) == repr(right) else [path]


def assert_same(left: Path, right: Path) -> None:
    """Two finished runs agree in result, table, parameters, walkers and random states, to the last bit."""
    assert (left / "metrics.csv").read_bytes() == (right / "metrics.csv").read_bytes()
    assert document(left) == document(right)
    assert differences(checkpoint(left), checkpoint(right)) == []


def _start(directory: Path, words: Sequence[str], stop: Stop | None, environment: dict[str, str]) -> Running:
    return Running(words, directory, os.environ | environment, None if stop is None else partial(_arm, stop))


def _ended(running: Running) -> Ended:
    done = running.done()
    return Ended(done.status, done.out, done.err)


def _arm(stop: Stop) -> None:
    """Replace the function at the chosen place by one that sends the signal at the chosen call."""
    from fusion.app import execution
    from fusion.files import atomic
    from fusion.runs import checkpoints, metrics
    from fusion.wavefunctions.vmc import VariationalMonteCarlo

    def now(*args: Any) -> None:
        os.kill(os.getpid(), stop.by)

    def amid_a_move(*args: Any) -> None:
        _before(torch, "rand", 0, now)

    def half_a_checkpoint(save: Any, content: Any, file: Any) -> None:
        save(content, file)
        file.truncate(file.tell() // 2)
        now()

    def half_a_row(log: Any, table: Any, *args: Any) -> None:
        with table.path.open("a") as file:
            file.write("7,optimi")
        now()

    owner, name, act = {
        "step": (VariationalMonteCarlo, "training_step", amid_a_move),
        "saving": (checkpoints.torch, "save", half_a_checkpoint),
        "renaming": (atomic.os, "replace", now),
        "logging": (metrics.MetricsFile, "log_metrics", half_a_row),
        "result": (execution, "write_result", now),
    }[stop.place]
    _before(owner, name, stop.call, act)


def _before(owner: Any, name: str, call: int, act: Any) -> None:
    """Let `act` run before call number `call` of a function; it gets the function and its arguments."""
    original, calls = getattr(owner, name), itertools.count()

    def replaced(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            act(original, *args)
        return original(*args, **kwargs)

    setattr(owner, name, replaced)
