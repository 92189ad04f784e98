"""Reader of plain and extended XYZ files: faults by frame and line, and charge and spin in comment lines."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ase.data import atomic_numbers, chemical_symbols

from fusion.chemistry import declared_sizes, isotopes, reader_errors, structure_state

if TYPE_CHECKING:
    from ase import Atoms

_IN_COMMENT = re.compile(
    r"(?<!\w)-{0,2}(\w*charge|\w*multiplicity|mult|unpaired|spin|chrg|chg|uhf)[\"']?\s*([:=]?)\s*"
    r"([+-]?\d+(?:\.\d*)?[+-]?)(?=[\s,;|)}]|$)"
)
_COMMENT_PAIR = re.compile(r"\s*([+-]?\d+)\s+([1-9])\s*")
_LEADING_PAIR = re.compile(r"\s*([+-]?\d)\s+([1-9])(?=\s|$)")
_NEUTRAL = (("0", "1"), ("0", "2"))
_PROPERTIES = re.compile(r"\bProperties\s*=\s*[\"']?([^\s\"']+)", re.IGNORECASE)
_PERIODIC = re.compile(r"\bpbc\s*=\s*[\"'\[{]?\s*([^\"'\]}=]*?)\s*(?:[\"'\]}]|\s\w+\s*=|$)", re.IGNORECASE)
_FLAGS = frozenset({"T", "F", "TRUE", "FALSE", "0", "1"})
_PLAIN = "species:S:1:pos:R:3"
_MOST_DIGITS = 15


def read(file: Path) -> Iterator[Atoms | str]:
    """Yield the structures of a file; an unreadable structure yields the reason instead. Raises ValueError."""
    from ase.io.formats import open_with_compression

    with io.TextIOWrapper(open_with_compression(str(file), "rb"), encoding="utf-8-sig", errors="replace") as lines:
        count_lines = enumerate(lines, start=1)
        number, head = 0, _next_filled(count_lines)
        while head is not None:
            number += 1
            line, text = head
            if not text.strip().isdecimal() or len(text.strip()) > _MOST_DIGITS:
                raise ValueError(_no_count(number, line, text.strip()))
            count = int(text)
            body = [content for _, content in itertools.islice(count_lines, count + 1)]
            head = _next_filled(count_lines)
            while head is not None and head[1].lstrip().startswith("VEC"):  # cell vectors in ADF's form
                body.append(head[1])
                head = _next_filled(count_lines)
            yield _frame(text, body, count, line, file)


def _next_filled(lines: Iterator[tuple[int, str]]) -> tuple[int, str] | None:
    return next((pair for pair in lines if pair[1].strip()), None)


def _no_count(number: int, line: int, text: str) -> str:
    if "\0" in text:
        return "it is not text in UTF-8"
    more = "the number before it may be too small" if number > 1 else "an XYZ file has it alone on its first line"
    return f"structure {number} begins with '{_printable(text)}' instead of its number of atoms; {more} (line {line})"


def _printable(text: str) -> str:
    return text[:40] if text.isprintable() else repr(text[:40])[1:-1]


def _frame(head: str, body: Sequence[str], count: int, line: int, file: Path) -> Atoms | str:
    """Read a structure from its lines, or return the reason for a failure; `line` is the number of its first line."""
    from ase.io.extxyz import read_xyz

    if count == 0:
        return "no atoms"
    if len(body) <= count:
        n_read = max(0, len(body) - 1)
        return f"it has {n_read} of {count} atoms: the file is cut off, or its number of atoms is wrong (line {line})"
    if fault := declared_sizes.of_columns(body[0], body[1]):
        return fault
    comment, rows, cell = body[0], list(body[1 : count + 1]), body[count + 1 :]
    stated = _PROPERTIES.search(comment)
    columns = (stated[1] if stated else _PLAIN).split(":")
    symbols: list[str] = []
    if fault := _fault_of_comment(comment, columns):
        return fault
    try:
        atoms: Atoms = next(read_xyz(io.StringIO("".join([f"{count}\n", comment, *rows, *cell])), 0))
    except Exception as error:  # ASE's parser raises exceptions of many types
        place = _first_column(columns, "species")
        symbols = _as_elements(rows, place, plain=stated is None)
        if fault := _fault(rows, columns, place, line + 2):
            return fault
        if not symbols:
            return reader_errors.reason(error, file)
        atoms = next(read_xyz(io.StringIO("".join([f"{count}\n", comment, *rows, *cell])), 0))
    isotopes.set_masses(atoms, symbols)
    return _read_comment(comment, atoms) or atoms


def _fault_of_comment(comment: str, columns: Sequence[str]) -> str | None:
    """Describe unusable declarations of a comment line; None if all can be used."""
    shown = ":".join(columns)[:80]
    kinds, numbers = columns[1::3], columns[2::3]
    if len(columns) % 3 or not all(map(str.isdecimal, numbers)) or not set("".join(kinds)) <= set("SRIL"):
        return f"its Properties, {shown}, are not of the form {_PLAIN}"
    if "pos:R:3" not in ":".join(columns) or not {"species", "Z", "numbers"} & set(columns[0::3]):
        return f"its Properties, {shown}, do not have species:S:1 and pos:R:3"
    periodic = _PERIODIC.search(comment)
    flags = periodic[1].replace(",", " ").split() if periodic else ["F"]
    if len(flags) not in (1, 3) or not all(flag.upper() in _FLAGS for flag in flags):
        return f"its pbc, '{' '.join(flags)[:40]}', is not three of T or F"
    return None


def _first_column(columns: Sequence[str], name: str) -> int | None:
    """Number of the first column of `name` in `name:type:number:...`; None if the name is missing."""
    place = 0
    for key, _, number in zip(columns[0::3], columns[1::3], columns[2::3], strict=False):
        if key == name:
            return place
        place += int(number) if number.isdecimal() else 1
    return None


def _as_elements(rows: list[str], place: int | None, plain: bool) -> list[str]:
    """Replace D, T and (in plain files) atomic numbers in `rows` by elements.

    Returns the original symbols; an empty list if nothing was replaced.
    """
    symbols, changed = [], False
    for index, row in enumerate(rows):
        words = row.split()
        symbol = words[place] if place is not None and place < len(words) else ""
        if plain and symbol.isdecimal() and len(symbol) < 4 and 0 < int(symbol) < len(chemical_symbols):
            symbol = chemical_symbols[int(symbol)]
        symbols.append(symbol)
        if place is not None and symbol and isotopes.element(symbol) != words[place]:
            changed, words[place] = True, isotopes.element(symbol)
            rows[index] = " ".join(words) + "\n"
    return symbols if changed else []


def _fault(rows: Sequence[str], columns: Sequence[str], place: int | None, line: int) -> str | None:
    """Describe the first atom's line that lacks the declared columns; None if all lines have them."""
    expected, position = sum(map(int, columns[2::3])), _first_column(columns, "pos")
    for index, row in enumerate(rows):
        words = row.split()
        in_line = f"(line {line + index})"
        if len(words) < expected:
            form = "symbol x y z" if expected == 4 else ":".join(columns)
            return f"{len(words)} of {expected} columns, {form} {in_line}"
        if place is not None and words[place].capitalize() not in atomic_numbers:
            return f"unknown element '{_printable(words[place])}' {in_line}"
        for word in words[position : position + 3] if position is not None else ():
            try:
                float(word)
            except ValueError:
                return f"'{_printable(word)}' stands where a coordinate belongs {in_line}"
    return None


def _read_comment(comment: str, atoms: Atoms) -> str | None:
    """Add to `info` a charge or spin in other forms than key=value: `charge: 1`, or a line with `1 1` alone.

    A bare word, which ASE reads as True, is ignored. Returns a message for a line with two values of a key.
    """
    pair = _COMMENT_PAIR.fullmatch(comment)
    if pair:
        charge, multiplicity = int(pair[1]), int(pair[2])
        if (int(atoms.numbers.sum()) - charge - multiplicity) % 2:
            atoms.info = {"charge": charge, "multiplicity": multiplicity}
            return None
    for key in [key for key in atoms.info if structure_state.is_state_key(key)]:
        if atoms.info[key] is True and not re.search(rf"{re.escape(key)}\s*=", comment):
            del atoms.info[key]
    values: dict[str, str] = {}
    stated = {structure_state.normal(key) for key in atoms.info}
    for key, sign, value in _IN_COMMENT.findall(comment.lower()):
        if not structure_state.is_state_key(key):
            continue
        if sign and structure_state.whole(values.setdefault(key, value)) != structure_state.whole(value):
            return f"its comment line states {key}={values[key]} and {key}={value}"
        if structure_state.normal(key) not in stated:
            atoms.info[key] = value
    pair = _LEADING_PAIR.match(comment)
    if (
        pair
        and (pair[1].lstrip("+-"), pair[2]) not in _NEUTRAL
        and not any(map(structure_state.is_state_key, atoms.info))
    ):
        states = f"charge={int(pair[1])} multiplicity={pair[2]}"
        atoms.info[structure_state.NOTES] = (
            f"its comment line begins with '{pair[0].strip()}', which is not read as charge and multiplicity; "
            f"{states} would state them",
        )
    return None
