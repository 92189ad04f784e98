"""Runs that are killed at a chosen point, resumed, and compared with an uninterrupted run."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from processes import Done, Running

UNEQUAL = {
    "timing",
    "communication",
    "settings",
    "threads",
    "step_ms",
    "ns_per_day",
    "model_fraction",
    "timed_steps",
    "peak_memory_bytes",
    "throughput",
    "conformations_per_cpu_s",
}
"""Keys of result.json and checkpoints, at any depth, that depend on machine, directory or moment of the kill."""

Resumes = Callable[..., list[Done]]
"""`resumes(words, Stop(...), files=(...))`: the fixture that kills, resumes and compares; returns the resumed runs."""


@dataclass(frozen=True)
class Stop:
    """Point at which a process ends itself: before call number `call` (from 0) of the function `place`.

    `place` is `module:name`, for example `toy.morse:Morse.forward`. `act(stop, function, *arguments)` ends the process,
    by default at once and by the signal `by`.
    """

    place: str
    call: int
    by: signal.Signals = signal.SIGKILL
    act: Callable[..., None] | None = None

    def now(self, *arguments: Any) -> None:
        """Send the signal to this process."""
        os.kill(os.getpid(), self.by)

    def arm(self) -> None:
        """Replace the function at `place` by one that acts before the chosen call."""
        act = self.now if self.act is None else partial(self.act, self)
        module, _, path = self.place.partition(":")
        before(importlib.import_module(module), path, self.call, act)


def before(owner: Any, path: str, call: int, act: Callable[..., None]) -> None:
    """Let `act` run before call number `call` of the function `path` of `owner`: `act(function, *arguments)`."""
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original, calls = getattr(owner, name), itertools.count()

    def replaced(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            act(original, *args)
        return original(*args, **kwargs)

    setattr(owner, name, replaced)


def start(
    directory: Path, words: Sequence[str], stop: Stop | None = None, environment: Mapping[str, str] = os.environ
) -> Running:
    """Start `fusion WORDS`, with every calculation in the checkpoint at once, to end at `stop`."""
    return Running(words, directory, environment, partial(_prepare, stop))


def killed_and_resumed(
    directory: Path,
    words: Sequence[str],
    stops: Sequence[Stop],
    until_done: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> list[Done]:
    """Run `fusion WORDS` in the directory `run`, killed at the first stop, and resume it, killed at each further stop.

    Return how each resumed process ended; the last is not killed. With `until_done`, every process is killed at the
    only stop until one ends before it.
    """
    words, ended = placed(words, "run"), []
    for stop in (*(stops * 30 if until_done else stops), None):
        ended.append(start(directory, words, stop, environment).done())
        if stop is None or (until_done and ended[-1].status != -signal.SIGKILL):
            break
        assert ended[-1].status == -signal.SIGKILL and not (directory / "run" / "result.json").exists(), ended[-1]
        words = ("resume", "run")
    return ended[1:]


def placed(words: Sequence[str], directory: str) -> Sequence[str]:
    """Words of the same run in another directory."""
    return [*(word for word in words if not word.startswith("hydra.run.dir=")), f"hydra.run.dir={directory}"]


def document(run: Path) -> dict[str, Any]:
    """Content of result.json."""
    content: dict[str, Any] = json.loads((run / "result.json").read_text())
    return content


def assert_same_result(run: Path, whole: Path, files: Sequence[str] = (), rel: float = 0.0) -> None:
    """Two runs agree in result.json, within the relative tolerance `rel`, and in the bytes of `files`."""
    changed = differences(document(run), document(whole), rel)
    assert not changed, changed
    for name in files:
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name


def differences(left: Any, right: Any, rel: float = 0.0, path: str = "") -> list[str]:
    """Places at which two nested containers differ: numbers by more than `rel`, tensors and all else in any bit.

    Values of the keys `UNEQUAL` may differ.
    """
    if isinstance(left, dict) and isinstance(right, dict):
        keys = sorted((set(left) | set(right)) - UNEQUAL, key=str)
        return [d for key in keys for d in differences(left.get(key), right.get(key), rel, f"{path}/{key}")]
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)) and len(left) == len(right):
        return [
            d for i, pair in enumerate(zip(left, right, strict=True)) for d in differences(*pair, rel, f"{path}/{i}")
        ]
    if hasattr(left, "dtype"):  # a tensor
        return [] if left.dtype == right.dtype and left.equal(right) else [path]
    if rel and isinstance(left, float) and isinstance(right, float) and math.isclose(left, right, rel_tol=rel):
        return []
    return [] if repr(left) == repr(right) else [f"{path}: {left!r}, not {right!r}"]


def _prepare(stop: Stop | None) -> None:
    from fusion.evaluation import task
    from fusion.methods import recorded

    recorded.SAVE_SHARE, task._SAVE_S = math.inf, 0.0
    if stop is not None:
        stop.arm()
