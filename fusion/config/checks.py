"""Checks of settings, each with one message for all tasks and methods."""

from __future__ import annotations

from typing import Any

from fusion.errors import InputError


def check_whole(setting: str, value: Any, least: int = 1) -> None:
    """Raise InputError unless the value of a setting is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{setting} must be a whole number of at least {least}, not {value!r}")
