"""Messages about faults of structure files, in place of the parsers' own messages."""

from __future__ import annotations

import json
import re
from pathlib import Path

_TOKEN = re.compile(r"(?:could not convert string to float|invalid literal for int\(\) with base 10): (.+)")
_LINE = re.compile(r" \(line \d+\)$")
_MATRIX = re.compile(r"Got info item (\w+), expecting special 3x3 matrix")
_INTERNAL = re.compile(
    r"to unpack|shape|broadcast|sequence|buffer|assign tuple|argument|not in list|pop from|StopIteration|"
    r"Exceeds the limit|concatenate|Internal requirement|Array \"|array element"
)
"""Parts of messages of Python and numpy that a parser raises for an unexpected line."""
_COLUMNS = "a line is missing, or has too few or too many columns"
_MOST = 200
"""Longest part of a parser's own message that is shown."""


def reason(error: Exception, file: Path) -> str:
    """Describe why `file` could not be read, with the number of the line if it is known."""
    from ase.io.formats import UnknownFileTypeError

    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    token = _TOKEN.fullmatch(text)
    if token:
        word = re.sub(r"\\[a-z]", "", token[1].strip("'\"")).strip()
        return f"'{word[:40]}' stands where a number belongs{_line_of(file, word)}"
    if matrix := _MATRIX.match(text):
        return f"its {matrix[1]} is not nine numbers"
    if text.startswith("Empty file"):
        return "it is empty"
    if isinstance(error, UnicodeError):
        return "it is not text in UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return f"it is not valid JSON from line {error.lineno} on"
    if isinstance(error, UnknownFileTypeError):
        return "its format is not known by its name or content; rename it (.xyz, .cif, .pdb) or convert it to xyz"
    internal = isinstance(error, (LookupError, TypeError, AttributeError, NameError, AssertionError))
    return _COLUMNS if internal or _INTERNAL.search(text) else text[:_MOST]


def without_line(text: str) -> str:
    """Remove the line number from a reason, so that equal faults of many structures are counted together."""
    return _LINE.sub("", text)


def _line_of(file: Path, word: str) -> str:
    """Return ` (line N)` for the first line of a text file that contains `word`; empty if no line does."""
    if not word or file.suffix.lower() in (".gz", ".bz2", ".xz"):
        return ""
    with file.open(encoding="utf-8", errors="replace") as lines:
        number = next((number for number, line in enumerate(lines, start=1) if word in line), None)
    return f" (line {number})" if number else ""
