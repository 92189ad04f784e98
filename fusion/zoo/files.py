"""Files to download: paths, sizes and digests, and the environment variables that control downloads."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from fusion.console.format import memory
from fusion.errors import InputError

PARTIAL = ".partial"  # directory of incomplete files, beside the complete ones
_TIMEOUT_S = 30.0
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"[^\\/:\x00-\x1f]+")


@dataclass(frozen=True)
class File:
    """One file to download.

    `path` is its destination, relative, with forward slashes; `size` in bytes and `sha256` in hexadecimal digits verify
    it; `urls` are tried in order. Without `exact` the size is only the largest one allowed: its publisher states the
    sha256 alone. Raises InputError for a path that could lead out of the destination directory.
    """

    path: str
    size: int
    sha256: str
    urls: tuple[str, ...]
    exact: bool = True

    def fits(self, size: int) -> bool:
        """True if a file of `size` bytes can be this one."""
        return size == self.size if self.exact else size <= self.size

    def __post_init__(self) -> None:
        if not all(_PART.fullmatch(part) and part[0] != "." for part in self.path.split("/")):
            raise InputError(
                f"{self.path!r} cannot be the name of a model's file: it must be relative, with forward slashes, and "
                "no part of it may be empty or begin with a dot"
            )
        if self.size < 0 or not _DIGEST.fullmatch(self.sha256):
            raise InputError(f"{self.path}: a file needs its size and its sha256, 64 hexadecimal digits in lower case")


def total(files: Iterable[File]) -> str:
    """Size of `files` together for a message, "at most" where one is not known exactly."""
    files = list(files)
    bound = "" if all(file.exact for file in files) else "at most "
    return bound + memory(sum(file.size for file in files))


class Withheld(InputError):
    """Download that a dry run leaves out; the text says what it would download."""


_withholding: ContextVar[bool] = ContextVar("withholding", default=False)


@contextmanager
def withholding() -> Iterator[None]:
    """Let downloads raise Withheld instead."""
    token = _withholding.set(True)
    try:
        yield
    finally:
        _withholding.reset(token)


def withheld() -> bool:
    """True within `withholding`."""
    return _withholding.get()


def offline() -> bool:
    """Return True if `FUSION_OFFLINE` forbids downloads."""
    return os.environ.get("FUSION_OFFLINE", "").lower() not in ("", "0", "false", "no")


def timeout_s() -> float:
    """Return `FUSION_TIMEOUT`, the longest silence of a server in seconds. Raises InputError for a wrong value."""
    setting = os.environ.get("FUSION_TIMEOUT") or _TIMEOUT_S
    try:
        seconds = float(setting)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InputError(f"FUSION_TIMEOUT={setting} must be a number of seconds above zero")
    return seconds


def part_name(file: File) -> str:
    """Name of the partial file, made of the digests of its final contents and of its path."""
    return f"{file.sha256}-{hashlib.sha256(file.path.encode()).hexdigest()[:8]}"
