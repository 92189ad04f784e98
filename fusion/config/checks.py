"""Checks of settings, each with one message for all tasks and methods."""

from __future__ import annotations

import math
import re
from typing import Any, TypeGuard

from fusion.errors import InputError


def check_whole(setting: str, value: Any, least: int = 1) -> None:
    """Raise InputError unless the value of a setting is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{setting} must be a whole number of at least {least}, not {value!r}")


def check_switch(setting: str, value: Any) -> None:
    """Raise InputError unless the value of a setting is true or false: the word "no" would count as true."""
    if not isinstance(value, bool):
        raise InputError(f"{setting} must be true or false, not {value!r}")


def energy_setting(setting: str, value: Any) -> float | None:
    """Read a positive energy in hartree: a number, or a text with the unit Ha or mHa; None stays None.

    Raises InputError for anything else.
    """
    if value is None:
        return None
    number, scale = value, 1.0
    if isinstance(value, str):
        found = re.fullmatch(r"\s*([0-9.eE+-]+)\s*(m?Ha)?\s*", value)
        number, scale = (found[1], 1e-3 if found[2] == "mHa" else 1.0) if found else (value, 1.0)
    try:
        energy = scale * float(number)
    except (TypeError, ValueError):
        energy = math.nan
    if isinstance(value, bool) or not 0 < energy < math.inf:
        raise InputError(f"{setting} must be a positive energy such as 0.001 (hartree) or 1mHa, not {value!r}")
    return energy


def is_number(value: Any) -> TypeGuard[float]:
    """Return True for a finite number, whose size a task may then check."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_number(setting: str, value: Any, positive: bool = False) -> None:
    """Raise InputError unless the value of a setting is a finite number that is not negative, or is positive."""
    if not is_number(value) or value < 0 or (positive and value == 0):
        raise InputError(
            f"{setting} must be a {'positive number' if positive else 'number of at least 0'}, not {value!r}"
        )
