"""Checks of the sizes that structure files declare against their bytes, before ASE's readers allocate memory."""

from __future__ import annotations

import math
import mmap
import re
from contextlib import closing
from pathlib import Path

from fusion.files import bounds

_FEW = 100_000
"""Number of atoms or numbers that a file of any size may declare: they need little memory."""
_ATOMS: dict[str, bytes] = {
    "vasp": rb"\n[ \t]*(\d+(?:[ \t]+\d+)*)[ \t]*(?=\r?\n)",
    "vasp-xdatcar": rb"\n[ \t]*(\d+(?:[ \t]+\d+)*)[ \t]*(?=\r?\n)",
    "vasp-out": rb"ions per type =([ \t\d]+)",
    "lammps-dump-text": rb"NUMBER OF ATOMS[^\n]*\n[ \t]*(\d+)",
    "cfg": rb"Number of particles\s*=\s*(\d+)",
    "cube": rb"\A[^\n]*\n[^\n]*\n\s*(\d+)",
}
"""Patterns of the number of atoms, in formats whose readers allocate memory or loop by it before reading the atoms."""
_JSON = ("db", "json", "traj", "cjson")
_ARRAY = re.compile(rb'"__ndarray__"\s*:\s*\[\s*\[([^\]]*)\]')
_HIDDEN = re.compile(rb"\\u00[2-7][0-9A-Fa-f]")
"""Plain characters written as escapes; programs write such JSON only to hide a key."""
_COLUMNS = re.compile(r":[A-Za-z]:(\d+)")
_TEXTS = ("key_value_pairs", "calculator_parameters", "constraints")
"""Columns of ASE's databases that hold JSON."""


def check(file: Path, kind: str) -> None:
    """Raise ValueError for a file of ASE's format `kind` that is not regular or declares more than it holds."""
    bounds.regular(file)
    suffix = file.suffix.lower()
    if suffix in (".gz", ".bz2", ".xz"):
        from ase.io.formats import open_with_compression

        with open_with_compression(str(file), "rb") as packed:
            _check_text(bounds.unpacked(packed, file.stat().st_size), kind)
    elif suffix == ".db":
        _check_database(file)
    elif (kind in _ATOMS or kind in _JSON) and file.stat().st_size:
        with file.open("rb") as plain, closing(mmap.mmap(plain.fileno(), 0, access=mmap.ACCESS_READ)) as content:
            _check_text(content, kind)


def of_columns(comment: str, following: str) -> str | None:
    """Describe the fault of an extended XYZ comment that declares more columns than the next line has characters."""
    columns = sum(int(number) for number in _COLUMNS.findall(comment))
    return f"it declares {columns:,} columns" if columns > max(1000, len(following)) else None


def _check_text(content: bytes | mmap.mmap, kind: str) -> None:
    if kind in _JSON:
        _check_arrays(content)
    for match in re.finditer(_ATOMS[kind], content) if kind in _ATOMS else ():
        atoms = sum(map(int, match[1].split()))
        if atoms > max(_FEW, len(content)):
            raise ValueError(f"it declares {atoms:,} atoms in {len(content):,} bytes")


def _check_arrays(content: bytes | mmap.mmap) -> None:
    """Raise ValueError for ASE's JSON whose arrays declare more numbers than it has characters."""
    if _HIDDEN.search(content):
        raise ValueError("it hides plain characters behind escapes")
    numbers = sum(math.prod(abs(int(part or 0)) for part in match[1].split(b",")) for match in _ARRAY.finditer(content))
    if numbers > max(_FEW, len(content)):
        raise ValueError(f"its arrays declare {numbers:,} numbers in {len(content):,} bytes")


def _check_database(file: Path) -> None:
    """Raise ValueError for an SQLite file that is not an ASE database, contains code, or has incomplete arrays.

    ASE would turn any other SQLite file into its own database by writing to it.
    """
    import sqlite3

    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
        try:
            schema = dict(database.execute("SELECT name, type FROM sqlite_master WHERE sql NOT LIKE 'CREATE VIRTUAL%'"))
            if schema.get("systems") != "table" or {"view", "trigger"} & set(schema.values()):
                raise ValueError("it is not a database of ASE: its table 'systems' is missing, or it has views")
            arrays = " OR ".join(f"{column} LIKE '%ndarray%' OR {column} LIKE '%\\u00%'" for column in _TEXTS)
            for texts in database.execute(f"SELECT {', '.join(_TEXTS)} FROM systems WHERE {arrays}"):
                _check_arrays(b"".join(str(text).encode() for text in texts))
        except sqlite3.Error as error:
            raise ValueError(f"it is not a database of ASE ({error})") from error
