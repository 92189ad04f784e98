"""Claims of workers on structures: locks on the bytes of one file, one byte for each structure.

The operating system frees the claims of a process that ends in any way, so that a killed worker leaves its structures
to the others. POSIX locks also work between the hosts of a network file system.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from fusion.errors import InputError

_TAKEN = (errno.EACCES, errno.EAGAIN)


class Claims:
    """Claims of this process in `file`, which is created if it is missing.

    A process must open a file of claims once only: closing it frees all claims of the process.
    """

    def __init__(self, file: Path) -> None:
        self._path = file
        self._file = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)

    def take(self, first: int, number: int = 1) -> bool:
        """Claim the structures from `first` on; False if another process has one of them.

        Raises InputError on a file system without locks.
        """
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, number, first)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            raise InputError(
                f"{self._path}: {error.strerror}; workers need locks of files: choose a hydra.run.dir elsewhere"
            ) from error
        return True

    def free(self, first: int, number: int = 1) -> None:
        """Give back the claims on the structures from `first` on."""
        fcntl.lockf(self._file, fcntl.LOCK_UN, number, first)

    def close(self) -> None:
        """Give back all claims."""
        os.close(self._file)
