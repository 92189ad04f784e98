"""Formats of numbers with error bars."""

from __future__ import annotations

import math


def with_error(value: float, error: float | None, digits: int = 1, decimals: int = 6) -> str:
    """Format `-8.0700(4)`: the error, rounded to `digits` figures, in units of the last decimals shown.

    Without an error (None) show `decimals`. A non-finite error gives `(?)`; an error of at least one is written out,
    `12.0(2.5)`.
    """
    if error is None or not math.isfinite(value):
        return f"{value:z.{decimals}f}"
    if not math.isfinite(error):
        return f"{value:z.{decimals}f}(?)"
    shown = _decimals(error, digits)
    bracket = f"{abs(error):.{shown}f}" if abs(error) >= 1 else f"{abs(error) * 10**shown:.0f}"
    return f"{value:z.{shown}f}({bracket})"


def plus_minus(value: float, error: float | None, digits: int = 2, decimals: int = 6) -> str:
    """Format `-8.07005 ± 0.00024` with the decimals of the error's `digits` figures; without error, `decimals`."""
    if error is None or not math.isfinite(value):
        return f"{value:z.{decimals}f}"
    if not math.isfinite(error):
        return f"{value:z.{decimals}f} ± ?"
    shown = _decimals(error, digits)
    return f"{value:z.{shown}f} ± {abs(error):.{shown}f}"


def _decimals(error: float, digits: int) -> int:
    """Number of decimals that show `digits` figures of an error: at most 8; 6 for an error of zero."""
    if error == 0:
        return 6
    exponent = int(f"{abs(error):.{digits - 1}e}".split("e")[1])  # after rounding: 0.0996 has the exponent of 0.1
    return min(max(digits - 1 - exponent, 0), 8)
