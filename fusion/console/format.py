"""Console, lines of a run and formats of their numbers.

Numbers with a unit are printed in that of the setting `units`. rich is imported only with the first printed line.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fusion.console import streams, units
from fusion.console.numbers import plus_minus
from fusion.console.numbers import with_error as with_error

if TYPE_CHECKING:
    from rich.console import Console


LABEL_WIDTH = 17  # columns of the label that starts a line
PLAIN_WIDTH = 120  # columns assumed where the output is not a terminal
_VALUE_WIDTH = 14  # width of a value followed by a remark
_TIME_COLUMN = 84  # column at which times end
_SHELLS = ("singlet", "doublet", "triplet", "quartet", "quintet", "sextet", "septet")


@functools.cache
def console() -> Console:
    """Return the program's console: plain text of fixed width if the output is not a terminal."""
    from rich.console import Console

    class Printable(Console):
        def print(self, *objects: Any, **settings: Any) -> None:
            super().print(*(_shown(item) if isinstance(item, str) else item for item in objects), **settings)

    streams.any_text(sys.stdout)  # an old locale must not stop a long run at the first ± sign
    terminal = sys.stdout.isatty()
    return Printable(
        highlight=False,
        markup=False,
        emoji=False,
        width=None if terminal else PLAIN_WIDTH,
        force_terminal=terminal,
        force_jupyter=False,  # a notebook would get one output per line, past a redirection of the standard output
        color_system="auto" if terminal else None,
    )


def _shown(text: str) -> str:
    return streams.visible(units.converted(text))


def header(*parts: str | None, notes: tuple[str, ...] = ()) -> None:
    """Print the first line of a run, `parts` (without None) joined by dots, then indented `notes` and an empty line."""
    print_line(" · ".join(part for part in parts if part), "bold")
    for text in notes:
        print_line(f"  {text}", "dim")
    console().print()


def line(label: str, text: str, note: str = "", seconds: float | None = None, style: str = "") -> None:
    """Print a line `label  text  note  time`, aligned with the other lines and never wrapped."""
    row = f"{label:<{LABEL_WIDTH}}" + (f"{text:<{_VALUE_WIDTH}}{note}" if note else text)
    if seconds is not None:
        row = f"{row}  {duration(seconds):>{max(0, _TIME_COLUMN - len(row) - 2)}}"
    print_line(row, style)


def print_line(text: str, style: str) -> None:
    """Print `text` as one line, also if its names or messages contain line feeds."""
    console().print(" ".join(text.split("\n")), style=style, soft_wrap=True)


def difference(value: float, error: float | None) -> str:
    """Format `+0.5 ± 0.2 mHa above`: a difference (mHa) to a reference with its side, or `within the error`."""
    small = units.current().small
    value, error = value * 1e-3 * small.factor, None if error is None else error * 1e-3 * small.factor
    if not math.isfinite(value):
        return f"{value} {small.symbol}"
    text = plus_minus(value, error or None, digits=1, decimals=2 if abs(value) < 10 else 1)
    text = f"{'' if text.startswith('-') else '+'}{text} {small.symbol}"
    if error and abs(value) <= error:
        return f"{text}, within the error"
    return f"{text} {'above' if value > 0 else 'below'}" if value else text


def duration(seconds: float) -> str:
    """Format a time: `0.6 s`, `41 s`, `3 min 05 s`, `2 h 05 min`."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def memory(size: float) -> str:
    """Format a size in bytes: `512 MB`, `2.1 GB` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def count(number: int, noun: str) -> str:
    """Format a number with a regular English noun: `1 determinant`, `33,440 parameters`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def system_title(
    formula: str,
    electrons: int,
    spin: int,
    charge: int = 0,
    pbc: Sequence[bool] = (False, False, False),
    cores: str = "",
) -> str:
    """Format `LiH (4 electrons, singlet)`; `spin` is N_up - N_down; a non-zero charge, periodicity and the label of
    effective core potentials are added."""
    shell = _SHELLS[spin] if 0 <= spin < len(_SHELLS) else f"multiplicity {abs(spin) + 1}"
    parts = [count(electrons, "electron"), shell, *([f"charge {charge:+d}"] if charge else [])]
    parts += [cores] if cores else []
    axes = "".join(axis for axis, periodic in zip("xyz", pbc, strict=True) if periodic)
    return f"{formula} ({', '.join([*parts, *([f'periodic in {axes}'] if axes else [])])})"
