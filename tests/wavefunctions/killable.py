"""The fusion program in processes of its own that start within a tenth of a second.

A server imports the heavy packages once and forks; every run is a fresh process with its own environment, and may be
told to kill itself, with a signal that nobody can catch, at a chosen place.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["fusion.cli", "fusion.launch", "fusion.wavefunctions", "fusion.checkpoints", "pyscf"])

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
TIMEOUT = 120.0


@dataclass(frozen=True)
class Stop:
    """Where a process ends itself: at call number `call` (from 0) of `place`, one of the names below, by `signal`."""

    place: str
    call: int
    by: signal.Signals = signal.SIGKILL


@dataclass(frozen=True)
class Ended:
    """Exit status (negative: the signal) and what was printed."""

    status: int
    out: str
    err: str


def fusion(directory: Path, *words: str, stop: Stop | None = None, environment: dict[str, str] | None = None) -> Ended:
    """Run `fusion WORDS` in `directory`, made if needed."""
    return _finish([_start(directory, words, stop, environment or {}, 0)])[0]


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
        started.append(_start(directory, words, stop if rank == number - 1 else None, environment, rank))
    return _finish(started)


def document(run: Path) -> dict[str, Any]:
    """result.json without what may differ between a run and its repetition: the time it took and where it began."""
    content: dict[str, Any] = json.loads((run / "result.json").read_text())
    del content["timing"], content["settings"]["ckpt"]
    return content


def checkpoint(run: Path) -> dict[str, Any]:
    """What the last checkpoint says of the wavefunction: its parameters and the state of the Monte Carlo."""
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


def _start(directory: Path, words: Sequence[str], stop: Stop | None, environment: dict[str, str], rank: int) -> Any:
    directory.mkdir(parents=True, exist_ok=True)
    output = [directory.parent / f".{directory.name}.{name}{rank}" for name in ("out", "err")]
    process = CONTEXT.Process(target=_main, args=(directory, list(words), stop, environment, output), daemon=True)
    os.environ["OMP_NUM_THREADS"] = "1"  # the server inherits it
    process.start()
    return process, output


def _finish(started: list[Any]) -> list[Ended]:
    ended = []
    for process, (out, err) in started:
        process.join(TIMEOUT)
        hung = process.is_alive()
        if hung:
            process.kill()
            process.join()
        assert not hung, f"still running after {TIMEOUT} s:\n{out.read_text()}{err.read_text()}"
        ended.append(Ended(process.exitcode, out.read_text(), err.read_text()))
    return ended


def _main(
    directory: Path, words: list[str], stop: Stop | None, environment: dict[str, str], output: list[Path]
) -> None:
    for stream, path in zip((1, 2), output, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.chdir(directory)
    import faulthandler; faulthandler.dump_traceback_later(15)
    os.environ.update(environment)
    sys.argv[:] = ["fusion", *words]
    if stop is not None:
        _arm(stop)
    from fusion import cli

    cli.main()


def _arm(stop: Stop) -> None:
    """Replace the function at the chosen place by one that ends the process at the chosen call."""
    from fusion import app, checkpoints, metrics
    from fusion.wavefunctions.sampler import Metropolis

    owner, name, spoil = {
        "moves": (Metropolis, "run", _nothing),
        "saving": (checkpoints.torch, "save", _half_a_checkpoint),
        "renaming": (checkpoints.os, "replace", _nothing),
        "logging": (metrics.MetricsFile, "log_metrics", _half_a_row),
        "result": (app, "write_result", _nothing),
    }[stop.place]
    original = getattr(owner, name)
    calls = 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == stop.call + 1:
            spoil(original, *args)
            os.kill(os.getpid(), stop.by)
        return original(*args, **kwargs)

    setattr(owner, name, counted)


def _nothing(original: Any, *args: Any) -> None:
    pass


def _half_a_checkpoint(original: Any, content: Any, file: Any) -> None:
    original(content, file)
    file.truncate(file.tell() // 2)
    file.flush()


def _half_a_row(original: Any, logger: Any, *args: Any) -> None:
    with logger.path.open("a") as file:
        file.write("7,optimi")
