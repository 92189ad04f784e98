"""Progress lines, one per phase of a run: a live bar in a terminal, log lines elsewhere.

The line stays on the screen when the phase ends. Tasks without Lightning use `phase`; `fusion.console.progress` draws
the same lines for Trainers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from threading import Lock
from typing import Protocol

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from fusion.console import units
from fusion.console.format import LABEL_WIDTH, console
from fusion.parallel.processes import rank

REFRESH_S = 0.125
_BAR_WIDTH = 30
_BAR = Lock()


@dataclass(frozen=True)
class State:
    """State of a phase: finished iterations of `total` (None: unknown), and a text."""

    phase: str
    step: int
    total: int | None
    text: str = ""

    @property
    def counter(self) -> str:
        return f"{self.step}/{self.total}" if self.total is not None else str(self.step)

    @property
    def complete(self) -> bool:
        return self.total is not None and self.step >= self.total


_NOTE: ContextVar[Callable[[str], None] | None] = ContextVar("note", default=None)


class Line(Protocol):
    """Progress line of one phase."""

    def draw(self, state: State) -> None: ...

    def finish(self, state: State) -> None: ...


def line(state: State) -> Line:
    """Return a bar for a terminal, or log lines for other output; a terminal has only one bar at a time."""
    return BarLine(state) if console().is_terminal and _BAR.acquire(blocking=False) else PlainLine(state)


def note(text: str) -> None:
    """Show the progress of a calculation within the current phase, after its text; nothing outside of phases."""
    show = _NOTE.get()
    if show is not None:
        show(text)


def detail(step: int, text: str) -> None:
    """Show the cycles of an SCF within the current phase."""
    note("  ".join(part for part in (f"SCF {step}", text) if part))


@contextmanager
def phase(name: str, total: int | None = None, start: int = 0) -> Iterator[Callable[[int, str], None]]:
    """Show a phase while the block runs; call the yielded function with (finished steps, text) at any rate.

    The line is redrawn at most eight times per second, by the first process only. `start` is the first step of a
    resumed phase.
    """
    state = State(name, start, total)
    shown = line(state) if rank() == 0 else None
    drawn = time.monotonic()

    def draw(current: State) -> None:
        nonlocal drawn
        if shown is not None and (state.complete or time.monotonic() - drawn >= REFRESH_S):
            shown.draw(current)
            drawn = time.monotonic()

    def update(step: int, text: str = "") -> None:
        nonlocal state
        state = State(name, step, total, text)
        draw(state)

    def beside(text: str) -> None:
        draw(replace(state, text="  ".join(part for part in (state.text, text) if part)))

    token = _NOTE.set(beside)
    try:
        yield update
    finally:
        _NOTE.reset(token)
        if shown is not None:
            shown.finish(state)


class _Facts(ProgressColumn):
    """Text after the bar: steps, text, elapsed and, during the phase, remaining time; truncated to one line."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width

    def render(self, task: Task) -> Text:
        state, elapsed, done = task.fields["state"], task.elapsed or 0.0, task.completed - task.fields["first"]
        parts = [state.counter, units.converted(state.text), _clock(elapsed)]
        line = "  ".join(part for part in parts if part)
        if done > 0 and state.total is not None and not state.complete:
            remaining = f", {_clock(elapsed / done * (state.total - state.step))} left"
            line += remaining if len(line + remaining) <= self._width else ""
        text = Text(line, no_wrap=True)
        text.truncate(self._width, overflow="ellipsis")
        return text


class BarLine:
    """Progress bar in a terminal, redrawn on demand: a redrawing thread would take time from the calculation."""

    def __init__(self, state: State) -> None:
        label = f"{state.phase:<11}"
        bar_width = max(5, min(_BAR_WIDTH, console().width - 85))
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=bar_width),
            _Facts(max(20, console().width - len(label) - bar_width - 4)),
            console=console(),
            auto_refresh=False,
        )
        self._task = self._progress.add_task(
            label, total=state.total, completed=state.step, state=state, first=state.step
        )
        self._progress.start()
        self._progress.refresh()

    def draw(self, state: State) -> None:
        self._progress.update(self._task, completed=state.step, total=state.total, state=state, refresh=True)

    def finish(self, state: State) -> None:
        self.draw(state)
        self._progress.stop()
        _BAR.release()


class PlainLine:
    """Progress as log lines: at the start, at each tenth or after half a minute, and at the end.

    Lines are at least two seconds apart. Their distance grows in a long run: an hour gives about one screen.
    """

    def __init__(self, state: State) -> None:
        self._start = self._printed_at = time.monotonic()
        self._printed = state
        self._print(state, "")

    def draw(self, state: State) -> None:
        now = time.monotonic()
        waited = now - self._printed_at
        tenth = state.total is not None and state.step - self._printed.step >= state.total / 10
        first = state.text and not self._printed.text  # show the first text without waiting half a minute
        if ((tenth or first) and waited >= 2) or waited >= max(30.0, (now - self._start) / 20):
            self._print(state, _clock(now - self._start))

    def finish(self, state: State) -> None:
        if state != self._printed:
            self._print(state, _clock(time.monotonic() - self._start))

    def _print(self, state: State, clock: str) -> None:
        self._printed, self._printed_at = state, time.monotonic()
        parts = [f"{state.phase:<{LABEL_WIDTH - 2}}", f"{state.counter:<10}", state.text, clock]
        console().print("  ".join(part for part in parts if part).rstrip(), soft_wrap=True)


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
