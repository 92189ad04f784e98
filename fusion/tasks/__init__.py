"""Tasks: calculations with a method and a system. `_target_` in conf/task names the class of each."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazily(name: str, package: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of a task's package, which loads the task's class `name` at its first use."""

    def attribute(requested: str) -> Any:
        if requested != name:
            raise AttributeError(f"module {package!r} has no attribute {requested!r}")
        return getattr(import_module(f"{package}.task"), name)

    return attribute
