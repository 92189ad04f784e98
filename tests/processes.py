"""The fusion program in processes of its own that start within a tenth of a second.

A server imports the heavy packages once and forks; every run is a fresh process with its own environment, directory
and output, and can be killed from outside. What depends on the start of an interpreter (the encoding of its streams,
threads chosen by the environment, torchrun) is tested with `subprocess` instead.
"""

from __future__ import annotations

import faulthandler
import itertools
import multiprocessing
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, BinaryIO
from unittest.mock import patch

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["preloaded"])
_COUNT = itertools.count()
LIMIT_S = 600.0
"""A process that still runs then hangs; far above what a busy machine needs."""


@dataclass(frozen=True)
class Done:
    """Exit status of the program (negative: the signal) and what it printed."""

    status: int
    out: str
    err: str


Program = Callable[..., Done]
"""`program("+method=toy", ...)`: runs the program with these words, returns how it ended."""


class Running:
    """A started program: `pid`, `alive`, `kill`, and `done` to wait for its end."""

    def __init__(
        self,
        words: Sequence[str],
        directory: Path,
        environment: Mapping[str, str] = os.environ,
        before: Callable[[], None] | None = None,
    ) -> None:
        """Run `fusion WORDS` in `directory`, made if needed; `before` is called in the process first.

        Pictures stay blank.
        """
        directory.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.gettempdir()) / f"fusion-test-{os.getpid()}-{next(_COUNT)}"
        self._outputs = [place.with_suffix(f".{name}") for name in ("out", "err")]
        arguments = (directory, list(words), dict(environment), self._outputs, before)
        self._process = CONTEXT.Process(target=_main, args=arguments, daemon=True)
        launch(self._process)

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """True while it runs."""
        return self._process.is_alive()

    def kill(self) -> None:
        """End it by a signal that it cannot catch."""
        self._process.kill()

    def done(self) -> Done:
        """Wait for its end. Raises AssertionError, with what it printed, for one that hangs."""
        self._process.join(LIMIT_S)
        hangs = self.alive
        if hangs:
            self._process.kill()
            self._process.join()
        out, err = (path.read_text(errors="replace") for path in self._outputs)
        for path in self._outputs:
            path.unlink()
        assert not hangs, f"still running after {LIMIT_S} s:\n{out}{err}"
        assert self._process.exitcode is not None
        return Done(self._process.exitcode, out, err)


def launch(process: BaseProcess) -> None:
    """Start a process of CONTEXT; the first one starts the server, which inherits this environment."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with patch.dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=path.rstrip(os.pathsep)):
        process.start()


def fusion(directory: Path, *words: str, environment: Mapping[str, str] = os.environ) -> Done:
    """Run `fusion WORDS` in `directory` and wait for its end."""
    return Running(words, directory, environment).done()


def ranks(directory: Path, *words: str, number: int = 2, before: Callable[[], None] | None = None) -> list[Done]:
    """Run `fusion WORDS` in several processes at once, in torchrun's environment; `before` is for the last."""
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
        last = before if rank == number - 1 else None
        started.append(Running(words, directory, os.environ | environment, last))
    return [running.done() for running in started]


def blank(figure: Any, file: BinaryIO, **options: Any) -> None:
    """Stand in for Figure.savefig, whose layout and rasterisation take longer than most runs of the tests."""
    file.write(b"blank")


def _main(
    directory: Path,
    words: list[str],
    environment: dict[str, str],
    outputs: list[Path],
    before: Callable[[], None] | None,
) -> None:
    for stream, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.chdir(directory)
    faulthandler.dump_traceback_later(LIMIT_S - 5.0)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.argv[:] = ["fusion", *words]
    from matplotlib.figure import Figure

    Figure.savefig = blank  # type: ignore[method-assign]
    if before is not None:
        before()
    from fusion.cli import main

    main.main()
