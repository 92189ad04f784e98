"""Kernels compiled by numba, kept on the disk, and a line for the user who waits for it. Imported only where needed.

numba keeps what it compiled beside the source, else in the user's cache directory; NUMBA_CACHE_DIR names another place.
Processes that compile at the same time do not disturb one another.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import numba
from numba.core import event

_COMPILING = "kernels for this processor, {often}: usually 15 to 30 s"
_UNKEPT = "every time, for want of a directory to keep them in (NUMBA_CACHE_DIR=DIR)"


def njit(**options: Any) -> Callable[[Any], Any]:
    """numba's decorator; what it compiles is kept for the next process wherever that is possible."""

    def compiled(function: Any) -> Any:
        _announcer.functions.add(function)
        try:
            return numba.njit(**options)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            _announcer.often = _UNKEPT
            return numba.njit(**(options | {"cache": False}))(function)

    return compiled


class _Announcer(event.Listener):
    """Says, once per process, that the first of our kernels is being compiled rather than read from the disk."""

    def __init__(self) -> None:
        self.functions: WeakSet[Any] = WeakSet()
        self.often = "once"
        self.announced = False

    def on_start(self, happening: Any) -> None:
        if self.announced or happening.data["dispatcher"].py_func not in self.functions:
            return
        self.announced = True
        _announce(_COMPILING.format(often=self.often))

    def on_end(self, happening: Any) -> None:
        pass


def _announce(text: str) -> None:
    """A line of the run, or one on standard error where fusion is used as a library."""
    from fusion.console.format import line
    from fusion.parallel import processes

    if processes.rank() > 0:
        return
    if processes.in_run():
        line("compiling", text)
    else:
        print(f"fusion: compiling {text}", file=sys.stderr, flush=True)


_announcer = _Announcer()
event.register("numba:compile", _announcer)
