"""Memory that this process may still take: of the machine, and of its control groups (containers, batch jobs)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

_LIMITS = {"memory": ("memory.limit_in_bytes", "memory.usage_in_bytes"), "": ("memory.max", "memory.current")}
"""Controllers of version 1 and 2 (which names none), and their files."""


def available_memory(groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes. `groups` lists the control groups, below `mounted`; where they cannot be read there is no limit."""
    return min([float(psutil.virtual_memory().available), *_left_in_groups(groups, mounted)])


def _left_in_groups(groups: Path, mounted: Path) -> Iterator[float]:
    """Limit less usage of the process's groups and of those above them."""
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
                        yield from _left(directory / limit, directory / usage)


def _left(limit: Path, usage: Path) -> Iterator[float]:
    try:
        yield max(0.0, float(limit.read_text()) - float(usage.read_text()))
    except (OSError, ValueError):  # not there, or "max"
        return
