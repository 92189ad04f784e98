"""Compilation of kernels by numba, cached on disk and announced to the user. Imported only where needed.

numba caches compiled kernels beside the source or in the user's cache directory; NUMBA_CACHE_DIR names another place.
Processes may compile at the same time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import numba
from numba.core import event

INNER: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Options of a kernel that other kernels alone call: it needs no entries for Python and C, which cost time."""

_COMPILING = "kernels for this processor, {often}: usually 20 to 60 s"
_UNCACHED = "every time, because no cache directory is writable (set NUMBA_CACHE_DIR=DIR)"


def njit(**options: Any) -> Callable[[Any], Any]:
    """Decorate a function with numba's njit, without its cache where no directory is writable."""

    def compiled(function: Any) -> Any:
        _announcer.functions.add(function)
        try:
            return numba.njit(**options)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            _announcer.often = _UNCACHED
            return numba.njit(**(options | {"cache": False}))(function)

    return compiled


class _Announcer(event.Listener):
    """Announces, once per process, the first kernel of fusion that is compiled instead of read from the cache."""

    def __init__(self) -> None:
        self.functions: WeakSet[Any] = WeakSet()
        self.often = "once"
        self.announced = False

    def on_start(self, compilation: Any) -> None:
        if self.announced or compilation.data["dispatcher"].py_func not in self.functions:
            return
        self.announced = True
        _announce(_COMPILING.format(often=self.often))

    def on_end(self, compilation: Any) -> None:
        pass


def _announce(text: str) -> None:
    """Print a line of the run, or on standard error if fusion is used as a library."""
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
