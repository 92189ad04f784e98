"""Work shared by as many threads as PySCF and torch may use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from pyscf import lib

from fusion.parallel.blas_threads import one_thread

Item = TypeVar("Item")
Found = TypeVar("Found")
_worker = threading.local()


def threads() -> int:
    """Threads that PySCF (OMP_NUM_THREADS) and torch both may use; 1 within `each`."""
    if getattr(_worker, "busy", False):
        return 1
    return max(1, min(lib.num_threads(), torch.get_num_threads()))


def each(work: Callable[[Item], Found], items: Sequence[Item]) -> list[Found]:
    """`work` of every item, in their order, in threads that have no threads of their own.

    The threads of libraries of linear algebra are kept out: they wait busily for each other.
    """
    count = min(threads(), len(items))
    if getattr(_worker, "busy", False):
        return [work(item) for item in items]
    with one_thread():
        if count < 2:
            _worker.busy = True  # what is called in turn need not ask again
            try:
                return [work(item) for item in items]
            finally:
                _worker.busy = False
        with ThreadPoolExecutor(count, initializer=_begin) as pool:
            return list(pool.map(work, items))


def each_range(work: Callable[[int, int], None], length: int) -> None:
    """`work(first, last)` on ranges of 0 ... length, one per thread."""
    count = max(1, min(threads(), length))
    edges = [length * part // count for part in range(count + 1)]
    each(lambda part: work(edges[part], edges[part + 1]), range(count))


def shares(length: int) -> list[range]:
    """0 ... length in as many parts as there are threads, every so manieth each."""
    count = max(1, min(threads(), length))
    return [range(first, length, count) for first in range(count)]


def _begin() -> None:
    _worker.busy = True
    lib.num_threads(1)  # of this thread's own calls
