"""Handling of Ctrl-C, SIGTERM and SIGHUP: for a whole run, and for work that should stop between two steps."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fusion.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE_S = 4.0
"""Time for the current step to end. A shorter step is completed; a longer one is lost."""
_REPEAT_S = 0.05


@contextmanager
def raised() -> Iterator[None]:
    """Let signals with a default handler raise Stopped while the block runs.

    Signals that this process ignores or handles already stay as they are. Outside the main thread nothing changes.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    main = threading.current_thread() is threading.main_thread()
    default = [number for number in SIGNALS if main and signal.getsignal(number) is signal.SIG_DFL]
    for number in default:
        signal.signal(number, stop)
    try:
        with _raised_again():
            yield
    finally:
        for number in default:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _raised_again() -> Iterator[None]:
    """Repeat a signal whose Stopped was raised where Python drops exceptions: in a callback of compiled code."""
    before, main = sys.unraisablehook, threading.main_thread().ident
    timers: list[threading.Timer] = []
    assert main is not None

    def repeat(dropped: sys.UnraisableHookArgs) -> None:
        if not isinstance(dropped.exc_value, Stopped):
            before(dropped)
            return
        timers.append(threading.Timer(_REPEAT_S, signal.pthread_kill, (main, dropped.exc_value.number)))
        timers[-1].daemon = True
        timers[-1].start()

    sys.unraisablehook = repeat
    try:
        yield
    finally:
        sys.unraisablehook = before
        for timer in timers:
            timer.cancel()


def accepted() -> list[signal.Signals]:
    """Signals that stop a run: all except an ignored SIGHUP, as under nohup."""
    return [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN]


class StopRequest:
    """A handler of signals that remembers the first: the same signal again raises Stopped at once."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.number == number:
            raise Stopped(number)
        self.number = number


@contextmanager
def between_steps(patience: float = PATIENCE_S) -> Iterator[Callable[[], None]]:
    """Let signals wait for the step in progress. Call the function it yields between two steps: it raises Stopped after
    a signal.

    A step that takes longer than `patience` seconds is interrupted, and so is any step by a second signal of the same
    kind. Compiled code of a library ends first. Outside the main thread, which alone receives signals, nothing changes.
    """
    request = StopRequest()
    timer: threading.Timer | None = None

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal timer
        if not patience:
            raise Stopped(number)
        request(number, frame)
        if timer is None:
            print(f"\nstopping: waiting up to {patience:g} s for the step in progress", file=sys.stderr, flush=True)
            main = threading.main_thread().ident
            assert main is not None
            timer = threading.Timer(patience, signal.pthread_kill, (main, number))
            timer.daemon = True
            timer.start()

    def stop_if_asked() -> None:
        if request.number:
            if timer is not None:
                timer.cancel()
            raise Stopped(request.number)

    if threading.current_thread() is not threading.main_thread():
        yield stop_if_asked
        return
    before = {number: signal.signal(number, note) for number in accepted()}
    try:
        with _raised_again():
            yield stop_if_asked
    finally:
        if timer is not None:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
