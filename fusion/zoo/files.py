"""Files to download: places, sizes and digests, and the environment variables that bound downloads."""

from __future__ import annotations

import hashlib
import math
import os
import re
from dataclasses import dataclass

from fusion.errors import InputError

PARTIAL = ".partial"  # the directory, beside the files, of those that are not complete
_TIMEOUT_S = 30.0
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"[^\\/:\x00-\x1f]+")


@dataclass(frozen=True)
class File:
    """One file to download.

    `path` is where it goes, relative, with forward slashes; `size` in bytes and `sha256` in hexadecimal digits are what
    it must be; `urls` are tried in this order. Raises InputError for a path that could lead elsewhere.
    """

    path: str
    size: int
    sha256: str
    urls: tuple[str, ...]

    def __post_init__(self) -> None:
        if not all(_PART.fullmatch(part) and part[0] != "." for part in self.path.split("/")):
            raise InputError(
                f"{self.path!r} cannot be the name of a model's file: it must be relative, with forward slashes, and "
                "no part of it may be empty or begin with a dot"
            )
        if self.size < 0 or not _DIGEST.fullmatch(self.sha256):
            raise InputError(f"{self.path}: a file needs its size and its sha256, 64 hexadecimal digits in lower case")


def offline() -> bool:
    """Whether `FUSION_OFFLINE` forbids downloading."""
    return os.environ.get("FUSION_OFFLINE", "").lower() not in ("", "0", "false", "no")


def timeout_s() -> float:
    """`FUSION_TIMEOUT`: how long, in seconds, a server may be silent."""
    given = os.environ.get("FUSION_TIMEOUT") or _TIMEOUT_S
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InputError(f"FUSION_TIMEOUT={given} must be a number of seconds above zero")
    return seconds


def part_name(file: File) -> str:
    """Name of the partial file, bound to the contents it must get and to the place it must go to."""
    return f"{file.sha256}-{hashlib.sha256(file.path.encode()).hexdigest()[:8]}"
