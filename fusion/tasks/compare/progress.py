"""Progress of a comparison: one line per method, redrawn in a terminal; in a log a line for each event."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fusion.console.format import LABEL_WIDTH, console, duration, with_error

if TYPE_CHECKING:
    from fusion.tasks.compare.workers import Worker

_REFRESH_S = 0.5
_REPEAT_S = 30.0  # between lines of a log about a method that is still running


@contextmanager
def board() -> Iterator[Callable[[Sequence[Worker]], None]]:
    """Yield a function that shows the workers; it may be called as often as one likes while the block runs."""
    if not console().is_terminal:
        yield Log()
        return
    from rich.live import Live
    from rich.text import Text

    drawn = 0.0
    with Live(console=console(), auto_refresh=False) as live:

        def show(workers: Sequence[Worker]) -> None:
            nonlocal drawn
            over = not any(worker.running for worker in workers)
            if over or time.monotonic() - drawn >= _REFRESH_S:
                lines = (f"{worker.label:<{LABEL_WIDTH}}{state(worker)}" for worker in workers)
                live.update(Text("\n".join(line[: console().width] for line in lines)), refresh=True)
                drawn = time.monotonic()

        yield show


class Log:
    """Prints a line when a method starts, when it ends, and at intervals in between."""

    def __init__(self) -> None:
        self._printed: dict[str, tuple[str, float]] = {}

    def __call__(self, workers: Sequence[Worker]) -> None:
        for worker in workers:
            word, now = _word(worker), time.monotonic()
            before, last_time = self._printed.get(worker.label, ("waiting", now))
            wait = max(_REPEAT_S, (now - worker.began) / 20)
            if word != before or (word == "running" and now - last_time >= wait):
                self._printed[worker.label] = (word, now)
                console().print(f"{worker.label:<{LABEL_WIDTH}}{state(worker)}", soft_wrap=True)


def state(worker: Worker) -> str:
    """Current state of a method in words, with its progress and time."""
    if worker.waiting:
        return "waiting"
    counter = f"{worker.finished}/{len(worker.parts)}" if len(worker.parts) > 1 else ""
    if worker.running:
        parts = ("running", counter, _progress(worker), duration(time.monotonic() - worker.began))
    else:
        taken = duration((worker.ended or 0.0) - worker.began) if worker.process is not None else "before"
        parts = ("done" if worker.good else "NOT ALL DONE", counter, "", taken)
    return "  ".join(part for part in parts if part)


def _word(worker: Worker) -> str:
    if worker.running:
        return "running"
    return "waiting" if worker.waiting else "over"


def _progress(worker: Worker) -> str:
    """The structure being calculated and, for an optimisation of a wavefunction, its last step."""
    part = worker.current
    if part is None:
        return ""
    name = part.structure.name if len(worker.parts) > 1 else ""
    step = _step(part.directory) if part.entry.trains else ""
    return "  ".join(text for text in (name, step) if text)


def _step(directory: Path) -> str:
    from fusion.runs.metrics_table import last_row

    row = last_row(directory)
    if row is None:
        return ""
    energy = f"E = {with_error(row['energy'], row['stderr'])} Ha" if math.isfinite(row["energy"]) else ""
    return f"{row['phase']} step {float(row['step']):.0f}  {energy}".rstrip()
