"""Work shared by as many threads as PySCF and torch may use."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from pyscf import lib


def threads() -> int:
    """Threads that PySCF (OMP_NUM_THREADS) and torch both may use."""
    return max(1, min(lib.num_threads(), torch.get_num_threads()))


def each_range(work: Callable[[int, int], None], length: int) -> None:
    """`work(first, last)` on ranges of 0 ... length, one per thread.

    For compiled code that is its own master: libraries of linear algebra wait busily for each other in threads.
    """
    count = max(1, min(threads(), length))
    if count == 1:
        work(0, length)
        return
    edges = [length * part // count for part in range(count + 1)]
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, edges[:-1], edges[1:]))
