"""Memory that this process may still use: on the CPU limited by the machine and its control groups (containers, batch
jobs), or of a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch

_LIMITS = {"memory": ("memory.limit_in_bytes", "memory.usage_in_bytes"), "": ("memory.max", "memory.current")}
"""Controllers of version 1 and 2 (which has no name), and their files."""


def available_memory(groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the bytes available; `groups` lists the control groups below `mounted`. Unreadable groups set no limit."""
    return min([float(psutil.virtual_memory().available), *_free_in_groups(groups, mounted)])


def available_memory_of(device: torch.device) -> float:
    """Return the bytes available on a device: a GPU's free memory and what torch keeps of it unused, or the CPU's."""
    import torch

    if device.type != "cuda" or not torch.cuda.is_available():
        return available_memory()
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return float(torch.cuda.mem_get_info(device)[0] + unused)


def _free_in_groups(groups: Path, mounted: Path) -> Iterator[float]:
    """Yield the limit minus the usage of the process's groups and of their parents."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller, (limit, usage) in _LIMITS.items():
            if controller in controllers.split(","):
                root = mounted / controller
                place = root / path.lstrip("/")
                for directory in (place, *place.parents):
                    if directory == root or root in directory.parents:
                        yield from _free(directory / limit, directory / usage)


def _free(limit: Path, usage: Path) -> Iterator[float]:
    try:
        yield max(0.0, float(limit.read_text()) - float(usage.read_text()))
    except (OSError, ValueError):  # the file is absent, or holds "max"
        return
