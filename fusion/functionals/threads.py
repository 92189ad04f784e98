"""Work shared by as many threads as PySCF and torch may use; a worker starts none of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import torch
from pyscf import lib

Item = TypeVar("Item")
Found = TypeVar("Found")
_worker = threading.local()


def threads() -> int:
    """Threads that PySCF (OMP_NUM_THREADS) and torch both may use; 1 within a worker."""
    if getattr(_worker, "busy", False):
        return 1
    return max(1, min(lib.num_threads(), torch.get_num_threads()))


def each(work: Callable[[Item], Found], items: Sequence[Item]) -> list[Found]:
    """`work` of every item, in their order."""
    count = min(threads(), len(items))
    if count < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(count, initializer=_begin) as pool:
        return list(pool.map(work, items))


def each_range(work: Callable[[int, int], None], length: int) -> None:
    """`work(first, last)` on ranges of 0 ... length, one per thread."""
    count = max(1, min(threads(), length))
    edges = [length * part // count for part in range(count + 1)]
    each(lambda edge: work(*edge), list(pairwise(edges)))


def _begin() -> None:
    _worker.busy = True
