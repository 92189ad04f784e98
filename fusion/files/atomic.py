"""Atomic writes of a run's files, and the list of these files in the run's directory.

A file under its name is complete at any moment, however the process ends. No writer creates its directory: a directory
that was removed during a run is an error.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from fusion.errors import InputError
from fusion.files import bounds

PART = ".part"
"""Suffix of an incomplete file; a kill can leave one behind."""
WRITTEN = ".files"
"""Name of the list of the files that a run wrote, one name per line, in the run's directory."""

_MOST_LISTED = 20_000
"""Largest number of names in a list; each needs an access to the disk."""

_listed: dict[Path, set[str]] = {}  # run directories of this process -> the names in their lists


@contextmanager
def listing(directory: Path) -> Iterator[None]:
    """Record the files that are written below `directory` in its file `.files`."""
    _listed[directory] = set(read_listed(directory))
    try:
        yield
    finally:
        del _listed[directory]


def read_listed(directory: Path) -> list[str]:
    """Read the names in the list of `directory`, except those whose folder is missing or outside of it.

    Raises InputError for a list that no run wrote: a pipe, or one that is too long.
    """
    file = directory / WRITTEN
    try:
        names = bounds.content(file, bounds.TEXT).decode(errors="replace").splitlines() if os.path.lexists(file) else []
        if len(names) > _MOST_LISTED:
            raise ValueError(f"it has {len(names):,} lines, more than {_MOST_LISTED:,}")
    except ValueError as error:
        raise InputError(f"{file} is not the list of a run's files, {error}; remove it") from None
    there = (name for name in dict.fromkeys(names) if os.path.isdir(os.path.dirname(os.path.join(directory, name))))
    return [name for name in there if _is_inside(name, directory)]


def _is_inside(name: str, directory: Path) -> bool:
    """True for a name inside `directory`: the list may be untrusted, and links may point anywhere."""
    if not name or "\0" in name or ".." in Path(name).parts:
        return False
    return (directory / name).parent.resolve().is_relative_to(directory.resolve())


def record(path: Path) -> Path:
    """Add `path`, which is about to be written, to the list of its run's directory; return `path`."""
    for directory, names in list(_listed.items()):
        if path.is_relative_to(directory) and (name := path.relative_to(directory).as_posix()) not in names:
            with naming(directory / WRITTEN), (directory / WRITTEN).open("a", encoding="utf-8") as file:
                file.write(f"{name}\n")
            names.add(name)
    return path


def make_folder(folder: Path, within: Path) -> None:
    """Create `folder` and its parents below the run's directory `within`, which must exist."""
    for parent in (*reversed(folder.relative_to(within).parents), folder.relative_to(within)):
        if parent != Path():
            (within / parent).mkdir(exist_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the name of the file to an OSError of the block that lacks it."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise _about(path, error) from None


@contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """Open a file beside `target`; flush and rename it when the block succeeds, otherwise remove it.

    Raises OSError with the name of `target` for a full disk or a removed directory, also if the writing library raises
    another exception.
    """
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}{PART}")
    raw = None
    try:
        record(target)
        raw = _Watched(part, "xb")
        file = io.BufferedWriter(raw)
        yield file
        file.flush()
        os.fsync(file.fileno())
        file.close()
        os.replace(part, target)
    except BaseException as error:
        with suppress(OSError):
            if raw is not None:
                raw.close()
            part.unlink(missing_ok=True)
        cause = error if isinstance(error, OSError) else None if raw is None else raw.error
        if cause is None:
            raise
        raise _about(target, cause) from None


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace the contents of `path` so that a reader, or a crash, sees either the old or the new contents."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def _about(path: Path, error: OSError) -> OSError:
    return OSError(error.errno or errno.EIO, error.strerror or str(error), str(path))


class _Watched(io.FileIO):
    """File that records the first error of writing to it."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.error = self.error or error
            raise
