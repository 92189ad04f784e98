"""Directory of a run: its lock, which admits one writing process at a time, and the files of an earlier run."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from fusion.errors import CalculationError, InputError
from fusion.files.atomic import PART, WRITTEN, read_listed

LOCK = ".lock"
PREVIOUS = "previous"
"""Folder of a run's directory for the files of the previous run."""

_POLL_S = 0.1
_PATIENCE_S = 30.0  # for a process that prepares a directory which it will share
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_held: set[int] = set()  # descriptors of the locks that this process holds


class Lock:
    """Lock of a run's directory: the file `.lock`, which names the process and host that hold it.

    The operating system releases the lock when the process ends in any way; a remaining file has no effect. On Linux
    the lock also works between hosts on NFS, unless the mount has `nolock` or `local_lock`; `works` is False on a file
    system without locks. Other threads of this process are excluded like other processes.

    With `shared`, several processes that share a calculation may have the lock: the first one has it `alone` until it
    calls `share`.
    """

    def __init__(self, directory: Path, shared: bool = False) -> None:
        self.directory, self.works, self._shared = directory, True, shared
        self.alone = False
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the lock unless this object has it. Raises InputError at once if another run has it."""
        while self._file is None:
            file = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            try:
                self.alone = _locked(file, self._shared)
            except BlockingIOError:
                os.close(file)
                raise InputError(
                    f"{self.directory} is in use by {holder(self.directory) or 'another run'}: wait until that run "
                    "has ended, or choose another hydra.run.dir"
                ) from None
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    os.close(file)
                    raise
                self.works = False
            if _is(file, self.directory / LOCK):
                self._file = file
                _held.add(file)
            else:  # the previous run removed the file between the two calls
                os.close(file)
        os.truncate(self._file, 0)
        os.pwrite(self._file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def share(self) -> None:
        """Let other processes have the lock too."""
        if self._file is not None and self.works:
            fcntl.flock(self._file, fcntl.LOCK_SH)
        self.alone = False

    def check(self) -> None:
        """Raise CalculationError if the directory is not the one that was locked."""
        if self._file is not None and not _is(self._file, self.directory / LOCK):
            raise CalculationError(f"{self.directory} was removed while the run was writing to it: its files are lost")

    def release(self) -> None:
        """Release the lock and remove its file."""
        if self._file is not None:
            with suppress(OSError):
                if self._shared:  # the file stays for the others
                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is(self._file, self.directory / LOCK):
                    (self.directory / LOCK).unlink()
            _held.discard(self._file)
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def holder(directory: Path) -> str | None:
    """Return `process 1234 on host` if a run is writing to `directory`, otherwise None. Writes nothing."""
    lock = directory / LOCK
    writable = os.access(lock, os.W_OK)  # network file systems want it for a lock that finds shared ones too
    try:
        with lock.open("r+b" if writable else "rb") as file:
            fcntl.flock(file, (fcntl.LOCK_EX if writable else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        with suppress(OSError):
            words = (directory / LOCK).read_text(encoding="utf-8", errors="replace")[:200].split()
            return " ".join(words) or "another process"
    except OSError:
        pass
    return None


def wait(directory: Path, seconds: float) -> None:
    """Wait until no run writes to `directory`, for at most `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and holder(directory) is not None:
        time.sleep(_POLL_S)


def put_aside(directory: Path, needed: Collection[str] = ()) -> None:
    """Move the files that an earlier run wrote and listed to `previous`.

    Checkpoints and files whose paths are in one of the texts `needed` stay. Other files are not touched.
    """
    previous, names = directory / PREVIOUS, read_listed(directory)
    if not names or not previous.resolve().is_relative_to(directory.resolve()):
        return
    for name in read_listed(previous):  # files of a still earlier run
        _remove(previous / name)
        _remove_empty((previous / name).parent, directory)
    for name in sorted(names, key=lambda name: not (directory / name).is_dir()):  # folders first, with their contents
        source, target = directory / name, previous / name
        if (
            Path(name).parts[0] != "checkpoints"
            and os.path.lexists(source)
            and not any(str(source) in text for text in needed)
        ):
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, target)
            _remove_empty(source.parent, directory)
    if previous.is_dir():
        os.replace(directory / WRITTEN, previous / WRITTEN)


def remove_parts(directory: Path) -> None:
    """Remove incomplete files that a kill left behind."""
    folders = {(directory / name).parent for name in read_listed(directory)} | {directory}
    for folder in folders:
        for part in folder.glob(f".*{PART}"):
            part.unlink(missing_ok=True)


def _locked(file: int, shared: bool) -> bool:
    """Lock an open file. True if no other process has it; with `shared`, wait while another one has it alone.

    Raises BlockingIOError if another process has it.
    """
    deadline = time.monotonic() + (_PATIENCE_S if shared else 0.0)
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if not shared:
                raise
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(_POLL_S)


def _is(file: int, path: Path) -> bool:
    """True if the open file is still the one at `path`."""
    try:
        on_disk = path.stat()
    except OSError:
        return False
    opened = os.fstat(file)
    return (opened.st_dev, opened.st_ino) == (on_disk.st_dev, on_disk.st_ino)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_empty(folder: Path, within: Path) -> None:
    while folder != within:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def _forget() -> None:
    """Close the parent's locks in a forked process, which must not hold them longer than the parent."""
    for file in _held:
        os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_forget)
