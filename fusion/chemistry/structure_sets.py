"""Many structures at once: all those of a file, of a folder's files, or of the files that match a pattern.

Every structure has its own charge and spin, as its file states them. One that cannot be used stays in the set with the
reason, so that its neighbours are calculated and it is counted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.chemistry import reader_errors, structure_files, system_input
from fusion.chemistry.structures import system_of
from fusion.chemistry.system import System
from fusion.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms

_XYZ = (".xyz", ".extxyz")
_NAMES = ("name", "id", "identifier", "label", "config_name")
"""Entries of a comment line that name a structure."""


@dataclass(frozen=True)
class Entry:
    """One structure by its name, or the reason why it cannot be used."""

    name: str
    system: System | None
    reason: str = ""


@dataclass(frozen=True)
class StructureSet:
    """Structures in the order of the files; `source` is the file, folder or pattern."""

    source: str
    entries: tuple[Entry, ...]

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def systems(self) -> list[System]:
        """The usable structures."""
        return [entry.system for entry in self.entries if entry.system is not None]


def stated(config: Mapping[str, Any]) -> bool:
    """True if a `system` node names many structures."""
    return config.get("paths") is not None


def read(config: Mapping[str, Any]) -> StructureSet:
    """Read the structures that a `system` node with `paths` names; its charge and spin, if given, hold for all.

    Raises InputError if nothing is found, if nothing of it can be used, or if the files are not those of the node's
    `digest`, of which a run has already calculated structures.
    """
    source, (charge, spin) = str(config["paths"]), system_input.state_of(config)
    files = _files(source)
    if config.get("digest") not in (None, digest(source)):
        raise InputError(changed(source))
    entries = []
    for file in files:
        found = list(_read(file))
        if not found and file.suffix.lower() in _XYZ:  # other files of a folder need not be structures
            found = [(None, "the file holds no structure")]
        for number, (atoms, reason) in enumerate(found, start=1):
            stem = file.stem if len(found) == 1 else f"{file.stem}-{number}"
            entries.append(_entry(_named(atoms, stem), atoms, reason, charge, spin))
    unique = _unique([entry.name for entry in entries])
    entries = [Entry(name, entry.system, entry.reason) for name, entry in zip(unique, entries, strict=True)]
    if all(entry.system is None for entry in entries):
        first = f": {entries[0].name}: {entries[0].reason}" if entries else ""
        raise InputError(f"systems: '{source}' holds no structure that can be used{first}")
    return StructureSet(source, tuple(entries))


def digest(source: str) -> str | None:
    """SHA-256 of the contents of the files, in their order; None without files."""
    try:
        files = _files(source)
    except InputError:
        return None
    contents = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            contents.update(hashlib.file_digest(content, "sha256").digest())
    return contents.hexdigest()


def changed(source: str) -> str:
    """Message for files that are no longer those of a run."""
    return f"systems: '{source}' has changed since the run began: restore it, or choose another hydra.run.dir"


def _files(source: str) -> list[Path]:
    """Files that the setting names. Raises InputError without any."""
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    else:
        files = sorted(Path(name) for name in glob(source, recursive=True) if Path(name).is_file())
    if not files:
        kind = "the folder has" if path.is_dir() else "there is"
        raise InputError(f"systems: {kind} no file '{source}'; write systems=FILE, a folder, or a pattern in quotes")
    return files


def _read(file: Path) -> Iterator[tuple[Atoms | None, str]]:
    """Yield structures, or reasons; a file that cannot be read on ends with the reason."""
    try:
        for atoms in structure_files.frames(file):
            yield (None, reader_errors.without_line(atoms)) if isinstance(atoms, str) else (atoms, "")
    except Exception as error:  # ASE's readers raise exceptions of many types
        yield None, f"cannot be read: {reader_errors.reason(error, file)}"


def _named(atoms: Atoms | None, otherwise: str) -> str:
    """Name that the comment line of a structure states."""
    info: Mapping[str, Any] = {} if atoms is None else atoms.info
    return next((str(info[key]) for key in _NAMES if isinstance(info.get(key), str | int)), otherwise)


def _entry(name: str, atoms: Atoms | None, reason: str, charge: int | None, spin: int | None) -> Entry:
    if atoms is None:
        return Entry(name, None, reason)
    try:
        return Entry(name, system_of(atoms, charge, spin, name, doubts=False))
    except InputError as error:
        return Entry(name, None, str(error).removeprefix(f"{name}: "))


def _unique(names: Sequence[str]) -> list[str]:
    """Append numbers to names that occur more than once."""
    number, seen, used, unique = Counter(names), Counter[str](), set(names), []
    for name in names:
        chosen = name
        while number[name] > 1 and chosen in used:
            seen[name] += 1
            chosen = f"{name}-{seen[name]}"
        used.add(chosen)
        unique.append(chosen)
    return unique
