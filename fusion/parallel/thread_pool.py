"""Distribution of work over the threads that PySCF and torch may use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from pyscf import lib

from fusion.parallel.blas_threads import one_thread

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
_worker = threading.local()


def threads() -> int:
    """Number of threads that PySCF (OMP_NUM_THREADS) and torch may both use; 1 within `each`."""
    if getattr(_worker, "busy", False):
        return 1
    return max(1, min(lib.num_threads(), torch.get_num_threads()))


def each(work: Callable[[Item], Outcome], items: Sequence[Item]) -> list[Outcome]:
    """Return `work` of every item, in order, computed in threads that start no threads of their own.

    Threads of linear algebra libraries are disabled, as they would spin while they wait for each other.
    """
    count = min(threads(), len(items))
    if getattr(_worker, "busy", False):
        return [work(item) for item in items]
    with one_thread():
        if count < 2:
            _worker.busy = True  # nested calls then use one thread
            try:
                return [work(item) for item in items]
            finally:
                _worker.busy = False
        with ThreadPoolExecutor(count, initializer=_begin) as pool:
            return list(pool.map(work, items))


def each_range(work: Callable[[int, int], None], length: int) -> None:
    """Call `work(first, last)` on ranges of 0 ... length, one per thread."""
    count = max(1, min(threads(), length))
    edges = [length * part // count for part in range(count + 1)]
    each(lambda part: work(edges[part], edges[part + 1]), range(count))


def shares(length: int) -> list[range]:
    """Split 0 ... length into interleaved ranges, one per thread."""
    count = max(1, min(threads(), length))
    return [range(first, length, count) for first in range(count)]


def _begin() -> None:
    _worker.busy = True
    lib.num_threads(1)  # for calls from this thread
