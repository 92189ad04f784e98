"""Collective operations of data-parallel training; each is the identity in a single process.

All ranks must call them in the same order. Lightning chooses the backend: gloo on CPUs, NCCL on GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from fusion.errors import CalculationError


@dataclass
class Traffic:
    """Number of collective calls of this process, and bytes that it gave to them."""

    calls: int = 0
    payload: int = 0


_COUNTERS: list[Traffic] = []


@contextmanager
def traffic() -> Iterator[Traffic]:
    """Count the collective calls inside the block; those of a single process do not count."""
    counter = Traffic()
    _COUNTERS.append(counter)
    try:
        yield counter
    finally:
        _COUNTERS.remove(counter)


def _count(tensor: Tensor) -> None:
    for counter in _COUNTERS:
        counter.calls += 1
        counter.payload += tensor.numel() * tensor.element_size()


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process among them; 0 is the one that reports."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate (B, ...) of all ranks along the first axis, in rank order; B must be the same on all ranks."""
    if world_size() == 1:
        return rows
    _count(rows)
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def own_rows(rows: Tensor) -> Tensor:
    """Return this rank's part of the result of `gather_rows`."""
    return rows.chunk(world_size())[rank()] if world_size() > 1 else rows


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Sum over all ranks; every rank gets the sum."""
    if world_size() > 1:
        _count(tensor)
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """Mean over all ranks with equal weights."""
    return sum_over_ranks(tensor) / world_size()


def largest_of_ranks(number: int, device: torch.device | str = "cpu") -> int:
    """Return the largest of the numbers of all ranks."""
    if world_size() == 1:
        return number
    largest = torch.tensor(number, device=device)
    _count(largest)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def from_first_rank(tensor: Tensor) -> Tensor:
    """Return rank 0's tensor on every rank, so that results of all ranks are bit-identical."""
    if world_size() > 1:
        _count(tensor)
        tensor = tensor.clone()
        dist.broadcast(tensor, 0)
    return tensor


@contextmanager
def partners() -> Iterator[None]:
    """Raise CalculationError if another rank ends during the shared work of the block."""
    try:
        yield
    except RuntimeError as error:
        if world_size() > 1 and (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise CalculationError(
                "another process of this run has ended; fusion resume continues from the last checkpoint"
            ) from error
        raise


def random_stream(seed: int, device: torch.device | str = "cpu", *purpose: str | int) -> torch.Generator:
    """Return a generator of this rank's random numbers for one purpose.

    Streams of different ranks and purposes are independent and reproducible.
    """
    words = [int.from_bytes(word.encode()) if isinstance(word, str) else word for word in (seed, rank(), *purpose)]
    state = np.random.SeedSequence(words).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))
