"""Files of structures that a function of Python was given in memory."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fusion.app.directories import existing, remove_empty
from fusion.chemistry import exact_xyz
from fusion.errors import InputError
from fusion.files.atomic import write_atomically

if TYPE_CHECKING:
    from ase import Atoms

FOLDER = "structures"


class Stored:
    """Structures in files of `runs`/structures; within the block a refused run removes those that it wrote.

    A file is named after the formula and a digest of its content: the same structure has one file.
    """

    def __init__(self, runs: Path, charge: int | None, spin: int | None) -> None:
        self._folder, self._charge, self._spin = runs / FOLDER, charge, spin
        self._written: list[Path] = []
        self._before = existing(self._folder.absolute())

    def __enter__(self) -> Stored:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, InputError):
            for file in self._written:
                file.unlink(missing_ok=True)
                remove_empty(file.parent.absolute(), self._before)

    def words(self, structure: Any) -> list[str]:
        """Words of the command line for a structure, or for many. Raises InputError."""
        if isinstance(structure, Path):
            structure = str(structure)
        if isinstance(structure, str) and structure:
            many = Path(structure).is_dir() or (bool(set("*?[") & set(structure)) and not Path(structure).exists())
            return [f"systems={structure}" if many else f"system={structure}"]
        if _are_atoms(structure):
            return [f"systems={self._write(structure, 'structures')}", "system.name=structures"]
        if not _is_atoms(structure):
            raise InputError(
                "structure must be ASE Atoms, a name such as 'ethanol', a file or a list of Atoms, not "
                f"{_shown(structure)}"
            )
        name = _name(structure)
        return [f"system={self._write([structure], name)}", f"system.name={name}"]

    def path_of(self, value: Any) -> Any:
        """Return the file of a setting that is Atoms or a list of Atoms; other values unchanged."""
        if _is_atoms(value):
            return str(self._write([value], _name(value)))
        return str(self._write(value, "structures")) if _are_atoms(value) else value

    def _write(self, structures: Sequence[Atoms], name: str) -> Path:
        content = "".join(exact_xyz.text(atoms, self._charge, self._spin, _name(atoms)) for atoms in structures)
        file = self._folder / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}.xyz"
        if not file.is_file():
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(file, content)
            except OSError as error:
                raise InputError(f"{file} cannot be written: {error.strerror}") from error
            self._written.append(file)
        return file


def _is_atoms(value: Any) -> bool:
    from ase import Atoms

    return isinstance(value, Atoms)


def _are_atoms(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_atoms, value))


def _name(atoms: Atoms) -> str:
    """Name of a structure, for its file and the directory of its run."""
    stated = atoms.info.get("name")
    name = stated if isinstance(stated, str) else atoms.get_chemical_formula(mode="hill").lower()
    return re.sub(r"[^\w.-]+", "_", name).strip("_.-")[:60] or "structure"


def _shown(value: Any) -> str:
    return f"a list with {type(value[0]).__name__}" if isinstance(value, list | tuple) and value else repr(value)[:60]
