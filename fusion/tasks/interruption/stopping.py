"""Ctrl-C, SIGTERM and SIGHUP: in a whole run, and in work that should end between two of its steps."""

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
"""Time that the step in progress gets to end: a short one is kept, a long one is lost whenever it is stopped."""
_REPEAT_S = 0.05


@contextmanager
def raised() -> Iterator[None]:
    """SIGTERM and SIGHUP raise Stopped, as Ctrl-C raises KeyboardInterrupt, unless this process ignores or handles
    them already. Outside of the main thread nothing is changed."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    main = threading.current_thread() is threading.main_thread()
    own = [number for number in SIGNALS if main and signal.getsignal(number) is signal.SIG_DFL]
    for number in own:
        signal.signal(number, stop)
    try:
        with _raised_again():
            yield
    finally:
        for number in own:
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
    """The signals that stop a run: all but a SIGHUP that is ignored, as under nohup."""
    return [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def between_steps(patience: float = PATIENCE_S) -> Iterator[Callable[[], None]]:
    """Signals wait for the step in progress: what it gives, called between two steps, raises Stopped after one.

    A step that takes longer than `patience` seconds is stopped where it is, and so is any step by the same signal
    again. A library's compiled code gets to its end first. Outside of the main thread, which alone gets signals,
    nothing is changed.
    """
    asked = 0
    timer: threading.Timer | None = None

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked, timer
        if asked == number or not patience:
            raise Stopped(number)
        asked = number
        if timer is None:
            print(f"\nstopping: the step in progress gets {patience:g} s to end", file=sys.stderr, flush=True)
            main = threading.main_thread().ident
            assert main is not None
            timer = threading.Timer(patience, signal.pthread_kill, (main, number))
            timer.daemon = True
            timer.start()

    def stop_if_asked() -> None:
        if asked:
            if timer is not None:
                timer.cancel()
            raise Stopped(asked)

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
