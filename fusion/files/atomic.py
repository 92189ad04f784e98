"""Files of a run: whole under their name at any moment, whatever ends the process, and listed in the run's directory.

No writer makes the directory it writes to: one that was removed while a run goes on is an error, not to be made again.
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
"""Suffix of a file that is not yet whole; a kill can leave one behind."""
WRITTEN = ".files"
"""The list, in a run's directory, of the files that the run wrote: one name a line."""

_MOST_LISTED = 20_000
"""Names in the longest list; each costs a look at the disk."""

_listed: dict[Path, set[str]] = {}  # run directories of this process -> the names in their lists


@contextmanager
def listing(directory: Path) -> Iterator[None]:
    """List the files that are written in `directory`, at any depth, in its file `.files`."""
    _listed[directory] = set(read_listed(directory))
    try:
        yield
    finally:
        del _listed[directory]


def read_listed(directory: Path) -> list[str]:
    """The names in the list of `directory`, those left out whose folder is not there or outside of it.

    Raises InputError for a list that no run wrote: a pipe, or one of endless length.
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
    """True for a name that stays in `directory`: the list may come from a stranger, links may point anywhere."""
    if not name or "\0" in name or ".." in Path(name).parts:
        return False
    return (directory / name).parent.resolve().is_relative_to(directory.resolve())


def record(path: Path) -> Path:
    """Return `path`, which is about to be written, after listing it in the run's directory that it belongs to."""
    for directory, names in list(_listed.items()):
        if path.is_relative_to(directory) and (name := path.relative_to(directory).as_posix()) not in names:
            with naming(directory / WRITTEN), (directory / WRITTEN).open("a", encoding="utf-8") as file:
                file.write(f"{name}\n")
            names.add(name)
    return path


def make_folder(folder: Path, within: Path) -> None:
    """Make `folder` and its parents below the run's directory `within`, which must be there."""
    for parent in (*reversed(folder.relative_to(within).parents), folder.relative_to(within)):
        if parent != Path():
            (within / parent).mkdir(exist_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an OSError of the block say which file it was about, where it does not."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise _about(path, error) from None


@contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """A file beside `target` to write to: flushed to the disk and renamed when the block ends well, else removed.

    Raises OSError, with the name of `target`, for a full disk or a directory that is gone, whatever the library that
    writes makes of it.
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
    """Replace `path` by a file holding `content` so that a reader, or a crash, sees the old content or the new."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def _about(path: Path, error: OSError) -> OSError:
    return OSError(error.errno or errno.EIO, error.strerror or str(error), str(path))


class _Watched(io.FileIO):
    """A file that remembers the first error of writing to it."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.error = self.error or error
            raise
