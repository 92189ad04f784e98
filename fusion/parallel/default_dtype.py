"""Default dtype of torch, which is one for the whole process: outside packages set it and depend on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@contextmanager
def default_dtype(dtype: torch.dtype | None = None) -> Iterator[None]:
    """Make `dtype` torch's default inside the block (None: keep the current one), and restore the previous default
    after the block, whatever has been set inside."""
    import torch

    before = torch.get_default_dtype()
    try:
        if dtype is not None:
            torch.set_default_dtype(dtype)
        yield
    finally:
        torch.set_default_dtype(before)
