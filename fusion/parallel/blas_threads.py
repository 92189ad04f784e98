"""Threads of the linear-algebra libraries of numpy and scipy."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, Final

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

BRING_THEIR_OWN: Final = ("numpy", "scipy.linalg")
"""Modules that may each load their own linear-algebra library."""


def one_thread() -> AbstractContextManager[Any]:
    """Limit products and decompositions to one thread while the block runs, in all threads of the process.

    Threads of linear algebra wait actively for each other: they slow down small products and take cores from other
    threads.
    """
    loaded = frozenset(sys.modules.keys() & BRING_THEIR_OWN)
    limit: AbstractContextManager[Any] = _libraries(loaded).limit(limits=1, user_api="blas")
    return limit


@cache
def _libraries(loaded: frozenset[str]) -> ThreadpoolController:
    """Cache the controller of the libraries, whose search takes milliseconds."""
    return ThreadpoolController()
