"""Where downloaded models are kept, and the locks by which processes share that place."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fusion.errors import InputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*")


def directory() -> Path:
    """The cache: `$FUSION_CACHE`, else the user's own cache directory. Nothing is created.

    Raises InputError where `~` in FUSION_CACHE names nobody's home.
    """
    given = os.environ.get("FUSION_CACHE")
    if given:
        try:
            return Path(given).expanduser().absolute()
        except RuntimeError:
            raise InputError(f"FUSION_CACHE={given}: there is no such home directory") from None
    import platformdirs

    return Path(platformdirs.user_cache_dir("fusion", appauthor=False))


def staging(model: str) -> Path:
    """Where the unfinished downloads of `model` (a name, with or without @version) lie. Nothing is created."""
    return directory() / "staging" / _checked(model)


def create(path: Path) -> Path:
    """Make the directory `path` of the cache and those above it; InputError, in one line, where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None
    return path


def unwritable(path: Path, error: OSError) -> InputError:
    """What to tell a user whose cache cannot be written to."""
    return InputError(f"the cache cannot be written to: {path}: {error.strerror}; FUSION_CACHE=DIR names another")


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock `name`, against other processes and threads; within a thread it may be taken again.

    Says so, once, when it has to wait. The operating system holds the lock: one whose holder was killed is free.
    Raises InputError where the cache cannot be written to.
    """
    from filelock import FileLock, Timeout

    path = create(directory() / "locks") / f"{_checked(name)}.lock"
    lock = FileLock(path, is_singleton=True)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _say_waiting(name)
            lock.acquire()
    except OSError as error:
        raise unwritable(path, error) from None
    try:
        yield
    finally:
        lock.release()


def _say_waiting(name: str) -> None:
    from fusion.console.format import console
    from fusion.parallel.processes import rank

    if rank() == 0:
        console().print(f"{name}: another process is at work on it, waiting for that one to finish", soft_wrap=True)


def _checked(name: str) -> str:
    """`name`, which becomes a file name."""
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} is no name of a model: letters, digits and . _ @ + - make one")
    return name
