"""Cache directory of downloaded models, and the locks by which processes share it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fusion.errors import InputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*")


def directory() -> Path:
    """Return the cache directory: `$FUSION_CACHE`, or the user's own cache directory. Does not create it.

    Raises InputError if `~` in FUSION_CACHE is not a home directory.
    """
    setting = os.environ.get("FUSION_CACHE")
    if setting:
        try:
            return Path(setting).expanduser().absolute()
        except RuntimeError:
            raise InputError(f"FUSION_CACHE={setting}: there is no such home directory") from None
    import platformdirs

    return Path(platformdirs.user_cache_dir("fusion", appauthor=False))


def staging(model: str) -> Path:
    """Return the directory for unfinished downloads of `model`, a name or NAME@VERSION. Does not create it."""
    return directory() / "staging" / _checked(model)


def create(path: Path) -> Path:
    """Create the directory `path` of the cache and its parents. Raises InputError if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None
    return path


def unwritable(path: Path, error: OSError) -> InputError:
    """Return the error for a cache that cannot be written to."""
    return InputError(f"the cache cannot be written to: {path}: {error.strerror}; set FUSION_CACHE=DIR to use another")


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock `name` against other processes and threads; a thread may take it again.

    Prints a line when it has to wait. The operating system releases the lock of a killed process. Raises InputError if
    the cache cannot be written to.
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
        console().print(f"{name}: another process is working on it; waiting until it has finished", soft_wrap=True)


def _checked(name: str) -> str:
    """Return `name` if it can be a file name; raises InputError otherwise."""
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} is not a name of a model: use letters, digits and . _ @ + -")
    return name
