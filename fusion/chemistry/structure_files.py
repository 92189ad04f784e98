"""Reading of structure files: ASE's readers, with the charge and multiplicity that they drop."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.chemistry import declared_sizes, gaussian_input, molfile, pdb, reader_errors, structure_state, xyz
from fusion.errors import InputError
from fusion.files import bounds

if TYPE_CHECKING:
    from ase import Atoms

_SUFFIXES = {
    ".xyz": "extxyz", ".extxyz": "extxyz", ".sdf": "sdf", ".mol": "sdf", ".mdl": "sdf", ".db": "db", ".json": "db",
    ".aselmdb": "db", ".pdb": "proteindatabank",
}  # fmt: skip

_CHARGE, _MULTIPLICITY = r"(?P<charge>[+-]?[\d.]+)", r"(?P<multiplicity>\d+)"
_STATED: dict[str, tuple[str, ...]] = {
    "gaussian-out": (rf"Charge =\s*{_CHARGE}\s+Multiplicity =\s*{_MULTIPLICITY}",),
    "orca-output": (rf"Total Charge\s+Charge\s+\.+\s+{_CHARGE}", rf"Multiplicity\s+Mult\s+\.+\s+{_MULTIPLICITY}"),
    "nwchem-in": (rf"^\s*charge\s+{_CHARGE}", rf"^\s*mult\s+{_MULTIPLICITY}", r"^\s*nopen\s+(?P<unpaired>\d+)"),
    "nwchem-out": (rf"Charge\s*[:=]\s*{_CHARGE}", rf"Spin multiplicity\s*:\s*{_MULTIPLICITY}"),
    "gamess-us-in": (rf"\bICHARG\s*=\s*{_CHARGE}", rf"\bMULT\s*=\s*{_MULTIPLICITY}"),
    "gamess-us-out": (rf"CHARGE OF MOLECULE\s*=\s*{_CHARGE}", rf"SPIN MULTIPLICITY\s*=\s*{_MULTIPLICITY}"),
    "turbomole": (rf"\$(?:chrg|eht\s+charge\s*=)\s*{_CHARGE}", r"unpaired\s*=\s*(?P<unpaired>\d+)"),
    "cjson": (rf'"totalCharge"\s*:\s*{_CHARGE}', rf'"totalSpinMultiplicity"\s*:\s*{_MULTIPLICITY}'),
    "espresso-in": (rf"\btot_charge\s*=\s*{_CHARGE}",),
}
"""Patterns of charge and multiplicity in formats whose ASE reader drops them."""
_UNREAD = frozenset(
    {
        "abinit-in", "aims", "castep-cell", "cp2k-restart", "dftb", "gamess-us-punch", "octopus-in", "onetep-in",
        "qbox", "siesta-xv", "turbomole", "xsd", "xtd",
    }
)  # fmt: skip
"""Formats whose charge is in a second file, or in a place that is not read."""


def read_file(path: str, frame: Any, start_dir: Path) -> Atoms:
    """Read one structure from any file that ASE reads. Raises InputError if it is missing, unreadable or ambiguous."""
    full = start_dir / Path(path).expanduser()
    if full.is_dir() or (not full.exists() and set("*?") & set(path)):
        kind = "a directory" if full.is_dir() else "a pattern"
        pattern = f"{path}/*" if full.is_dir() else path
        raise InputError(f"system.path: '{path}' is {kind}; -m 'system=glob({pattern})' calculates each file in it")
    if not full.is_file():
        inside = full.is_relative_to(start_dir)
        place = f"'{full.relative_to(start_dir)}' in {start_dir}" if inside else f"'{path}'"
        raise InputError(f"system.path: no file {place}")
    try:
        structures = all_frames(full)
    except Exception as error:  # ASE's readers raise exceptions of many types
        reason = reader_errors.reason(error, full)
        raise InputError(f"system.path: cannot read '{path}' as a structure: {reason}") from error
    if not structures:
        raise InputError(f"system.path: '{path}' holds no structure")
    return structures[_index(frame, len(structures), path)]


def frames(file: Path) -> Iterator[Atoms | str]:
    """Yield the structures of a file; an unreadable structure yields the reason instead. Raises ASE's exceptions."""
    bounds.regular(file)
    kind = _kind(file)
    declared_sizes.check(file, kind)
    if kind == "extxyz":
        yield from xyz.read(file)
    elif kind == "sdf":
        yield from molfile.read(file)
    elif kind == "gaussian-in":
        yield from gaussian_input.read(file)
    elif kind == "db":
        yield from _rows(file)
    elif kind == "proteindatabank":
        yield from pdb.read(file)
    else:
        from ase.io import iread

        stated = _stated(file, kind)
        for atoms in iread(str(file), index=":", format=kind, do_not_split_by_at_sign=True):
            _check_whole(file, kind, len(atoms))
            atoms.info |= stated
            yield atoms


def _check_whole(file: Path, kind: str, atoms: int) -> None:
    """Raise ValueError for a truncated file, in formats whose ASE reader does not notice the truncation."""
    if atoms == 0:
        raise ValueError("it has no atoms")
    if kind not in ("gromacs", "turbomole"):
        return
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    if kind == "turbomole" and not any(line.startswith("$end") for line in lines):
        raise ValueError("its $end is missing: the file is cut off")
    if kind == "gromacs" and lines[1].strip() != str(atoms):
        raise ValueError(f"its second line declares {lines[1].strip()[:20]} atoms, but it has {atoms}")


def _kind(file: Path) -> str:
    """ASE's name of the format; `extxyz`, `sdf` and `db` stand for all formats of the same reader."""
    suffix = file.suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    from ase.io.formats import filetype

    kind = str(filetype(str(file)))
    return {"xyz": "extxyz", "mol": "sdf", "json": "db"}.get(kind, kind)


def all_frames(file: Path) -> list[Atoms]:
    """Return all structures of a file. Raises ASE's exceptions, and ValueError for an unreadable structure."""
    structures = []
    for number, atoms in enumerate(frames(file), start=1):
        if isinstance(atoms, str):
            raise ValueError(f"structure {number}: {atoms}")
        structures.append(atoms)
    return structures


def _index(frame: Any, number: int, path: str) -> int:
    if frame is None:
        if number > 1:
            raise InputError(f"'{path}' holds {number} structures; choose one: system.frame=0 ... {number - 1}")
        return 0
    index = structure_state.whole(frame)
    if index is None:
        raise InputError(f"system.frame must be a whole number, not {frame!r}")
    if not -number <= index < number:
        raise InputError(f"system.frame={index}, but '{path}' holds {number} structures: 0 ... {number - 1}")
    return index


def _rows(file: Path) -> Iterator[Atoms]:
    """Yield the rows of an ASE database, with key-value pairs and data in `info`."""
    from ase.db import connect

    for row in connect(file).select():
        atoms = row.toatoms()
        pairs = {
            key: vars(row)[key] for key in row.key_value_pairs
        }  # row.charge would be the sum of the atoms' charges
        atoms.info = {**pairs, **(row.data or {})}
        yield atoms


def _stated(file: Path, kind: str) -> dict[str, Any]:
    """Entries of `info` for charge and multiplicity that a file states and ASE's reader drops."""
    patterns = _STATED.get(kind, ())
    text = file.read_text(encoding="utf-8", errors="replace") if patterns else ""
    stated: dict[str, Any] = {}
    for pattern in patterns:
        match = re.search(pattern, text, re.MULTILINE | re.IGNORECASE)
        stated |= match.groupdict() if match else {}
    return {structure_state.UNREAD: kind} if not stated and kind in _UNREAD else stated
