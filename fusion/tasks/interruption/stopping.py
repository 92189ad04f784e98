"""Ctrl-C and SIGTERM in work that should end between two of its steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fusion.errors import Stopped

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def between_steps() -> Iterator[Callable[[], None]]:
    """Signals wait for the step in progress: what it gives, called between two steps, raises Stopped after one.

    The same signal again stops at once. Outside of the main thread, which alone gets signals, nothing is changed.
    """
    asked = 0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked == number:
            raise Stopped(number)
        asked = number

    def stop_if_asked() -> None:
        if asked:
            raise Stopped(asked)

    if threading.current_thread() is not threading.main_thread():
        yield stop_if_asked
        return
    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield stop_if_asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
