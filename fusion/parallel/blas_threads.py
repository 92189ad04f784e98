"""Threads of the libraries behind numpy's and scipy's linear algebra."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, Final

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

BRING_THEIR_OWN: Final = ("numpy", "scipy.linalg")
"""Modules that may come with a library of linear algebra each."""


def one_thread() -> AbstractContextManager[Any]:
    """Products and decompositions use one thread while the block runs, in all threads of the process.

    Threads of linear algebra wait busily for each other: small products take longer with them, and whatever has
    threads of its own loses theirs.
    """
    loaded = frozenset(sys.modules.keys() & BRING_THEIR_OWN)
    limit: AbstractContextManager[Any] = _libraries(loaded).limit(limits=1, user_api="blas")
    return limit


@cache
def _libraries(loaded: frozenset[str]) -> ThreadpoolController:
    """Finding them takes milliseconds."""
    return ThreadpoolController()
