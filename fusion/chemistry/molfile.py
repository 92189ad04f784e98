"""Reader of MDL molfiles and SD files (V2000 and V3000) with charges, radicals and isotopes.

Biovia, CTfile Formats (2020). `M  CHG` and `M  RAD` lines override the charge column of the atom block, `M  ISO` lines
its mass difference. ASE's reader returns only the nuclei of the first record.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ase import Atoms
from ase.data import atomic_masses, atomic_numbers

from fusion.chemistry import isotopes, reader_errors, structure_state

_COLUMN_CHARGES = {1: 3, 2: 2, 3: 1, 5: -1, 6: -2, 7: -3}
_DOUBLET_COLUMN = 4
_UNPAIRED = {0: 0, 1: 0, 2: 1, 3: 2}
"""`RAD` value -> unpaired electrons: 1 is a singlet, 2 a doublet, 3 a triplet."""
_ITEM = re.compile(r">.*<([^>]+)>")
_PAIR = re.compile(r"(CHG|RAD|MASS)=(-?\d+)")


def read(path: Path) -> Iterator[Atoms]:
    """Yield the records of a file as ASE Atoms, with charge and unpaired electrons in `info`. Raises ValueError."""
    text = path.read_text(encoding="utf-8", errors="replace")
    records = [record for record in re.split(r"^\$\$\$\$.*\n?", text, flags=re.MULTILINE) if record.strip()]
    for number, record in enumerate(records, start=1):
        try:
            yield _molecule(record.splitlines())
        except (IndexError, KeyError, ValueError) as error:
            raise ValueError(f"record {number}: {reader_errors.reason(error, path)}") from error


def _molecule(lines: Sequence[str]) -> Atoms:
    if len(lines) < 4:
        raise ValueError("it has no counts line")
    if not re.match(r"[ \d]{2}\d", lines[3]):
        raise ValueError(f"its fourth line, '{lines[3].strip()[:40]}', does not begin with the number of atoms")
    return _v3000(lines) if "V3000" in lines[3] else _v2000(lines)


def _v2000(lines: Sequence[str]) -> Atoms:
    count = int(lines[3][:3])
    rows = [_columns(row) for row in lines[4 : 4 + count]]
    if len(rows) < count or not count:
        raise ValueError(f"it has {len(rows)} of {count} atoms")
    codes = [_number(row[5]) for row in rows]
    nucleons = [_nearest(row[3], _number(row[4])) for row in rows]
    properties = {"CHG": [_COLUMN_CHARGES.get(code, 0) for code in codes], "RAD": [0] * count, "ISO": nucleons}
    properties["RAD"] = [2 if code == _DOUBLET_COLUMN else 0 for code in codes]
    end = next((index for index, line in enumerate(lines) if line.startswith("M  END")), len(lines))
    property_lines = lines[4 + count : end]
    if any(line[:6] in ("M  CHG", "M  RAD") for line in property_lines):
        properties |= {"CHG": [0] * count, "RAD": [0] * count}
    for line in property_lines:
        if line[:3] == "M  " and line[3:6] in properties:
            words = [int(word) for word in line[9:].split()]
            if len(words) % 2 or not all(0 < atom <= count for atom in words[0::2]):
                raise ValueError(f"'{line.strip()[:40]}' is not pairs of an atom, 1 ... {count}, and a value")
            for atom, value in zip(words[0::2], words[1::2], strict=True):
                properties[line[3:6]][atom - 1] = value
    symbols, positions = [row[3] for row in rows], [[float(value) for value in row[:3]] for row in rows]
    return _atoms(symbols, positions, properties["CHG"], properties["RAD"], properties["ISO"], lines[end:])


def _columns(row: str) -> list[str]:
    """Split a row into x, y, z, symbol, mass difference and charge code, by white space or by the fixed columns."""
    words = row.split()
    if len(words) > 3 and words[3].isalpha():
        return [*words[:6], *[""] * (6 - len(words))]
    return [row[:10], row[10:20], row[20:30], row[31:34].strip(), row[34:36], row[36:39]]


def _v3000(lines: Sequence[str]) -> Atoms:
    joined = re.sub(r"-\nM  V30 ", "", "\n".join(lines)).splitlines()
    rows = [line[7:].strip() for line in joined if line.startswith("M  V30 ")]
    if "BEGIN ATOM" not in rows or "END ATOM" not in rows:
        raise ValueError("its block of atoms, M  V30 BEGIN ATOM ... END ATOM, is not complete")
    atoms = rows[rows.index("BEGIN ATOM") + 1 : rows.index("END ATOM")]
    if not atoms:
        raise ValueError("it has no atoms")
    words = [row.split() for row in atoms]
    short = [row for row, parts in zip(atoms, words, strict=True) if len(parts) < 5]
    if short:
        raise ValueError(f"'{short[0][:40]}' is not a line of an atom: number symbol x y z ...")
    symbols, positions = [word[1] for word in words], [[float(value) for value in word[2:5]] for word in words]
    stated = [{key: int(value) for key, value in _PAIR.findall(row)} for row in atoms]
    charges, radicals, masses = ([entry.get(key, 0) for entry in stated] for key in ("CHG", "RAD", "MASS"))
    return _atoms(symbols, positions, charges, radicals, masses, lines)


def _atoms(
    symbols: Sequence[str],
    positions: Sequence[Sequence[float]],
    charges: Sequence[int],
    radicals: Sequence[int],
    nucleons: Sequence[int],
    data: Sequence[str],
) -> Atoms:
    elements = [isotopes.element(symbol) for symbol in symbols]
    unknown = [symbol for symbol in elements if not atomic_numbers.get(symbol)]
    if unknown:
        raise ValueError(f"unknown element {unknown[0]!r}")
    atoms = Atoms(elements, positions=positions)
    if any(charges):
        atoms.info["charge"] = sum(charges)
    if any(radicals):
        atoms.info["unpaired"] = sum(_UNPAIRED.get(radical, 0) for radical in radicals)
    for head, value in itertools.pairwise(data):
        item = _ITEM.match(head)
        if item and structure_state.is_state_key(item[1]):
            atoms.info[item[1]] = value.strip()
    if not any(structure_state.normal(key) in structure_state.CHARGES for key in atoms.info):
        atoms.info["charge"] = 0
    numbers = [isotopes.HYDROGENS.get(symbol, number) for symbol, number in zip(symbols, nucleons, strict=True)]
    if any(numbers):
        atoms.set_masses([isotopes.mass(symbol, number) for symbol, number in zip(elements, numbers, strict=True)])
    return atoms


def _nearest(symbol: str, difference: int) -> int:
    """Number of nucleons of the isotope `difference` above the natural mass; zero for no difference."""
    number = atomic_numbers.get(symbol, 0)
    return round(float(atomic_masses[number])) + difference if difference and number else 0


def _number(text: str) -> int:
    return int(text) if text.strip() else 0
