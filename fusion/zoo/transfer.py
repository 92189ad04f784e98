"""Download of one file from one URL through fsspec, to a partial file from which a later try resumes."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit, urlunsplit

from fusion.zoo.sources import Dropped, Sources, Stream, Unavailable

_READ = 1 << 20  # bytes per read
_GAIN = 1 << 18  # bytes that a try must gain to reset the count of failures
RETRIES = 4  # after a dropped connection, on the same URL
BACKOFF_S = 0.25  # before the first retry; doubled for each further one
_SLOWEST = 4096  # bytes per second, averaged over the timeout, below which a server counts as stalled


class WrongContents(Unavailable):
    """The contents of the URL differ from the published ones."""


class StorageFailed(Exception):
    """The partial file could not be written; `error` is the OSError."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Cancelled(Exception):
    """The download stopped because another file failed."""


@dataclass(frozen=True)
class Wanted:
    """Partial file, with the size in bytes, the largest allowed unless `exact`, and the sha256 of the complete file."""

    part: Path
    size: int
    sha256: str
    exact: bool = True

    @property
    def here(self) -> int:
        """Current size of the partial file in bytes."""
        try:
            return self.part.lstat().st_size
        except FileNotFoundError:
            return 0


def shown(url: str) -> str:
    """Return `url` for printing: without user name, password and signature."""
    parts = urlsplit(url)
    if not parts.netloc:
        return url
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def download(sources: Sources, url: str, wanted: Wanted, moved: Callable[[int], None], stop: Event) -> None:
    """Complete `wanted.part` from `url`; return when its size and sha256 are right.

    `moved` is called with the number of bytes gained (negative: discarded). A dropped connection is resumed, up to
    `RETRIES` times without a gain. Raises Unavailable if the URL cannot deliver the file (the partial file stays),
    WrongContents (the partial file is removed), StorageFailed, or Cancelled once `stop` is set.
    """
    failures = 0
    while True:
        before = wanted.here
        try:
            digest, resumed = _receive(sources, url, wanted, moved, stop)
        except Dropped as drop:
            failures = failures + 1 if wanted.here - before < _GAIN else 1
            if failures > RETRIES:
                raise Unavailable(f"{drop}, {failures} times") from None
            if stop.wait(max(drop.wait_s, BACKOFF_S * 2 ** (failures - 1))):
                raise Cancelled from None
            continue
        if digest == wanted.sha256:
            return
        moved(-wanted.here)
        wanted.part.unlink()
        if not resumed:
            raise WrongContents(f"wrong contents (sha256 {_short(digest)}, expected {_short(wanted.sha256)})")
        # The resumed beginning may come from another mirror or version: download again, to judge this URL alone.


def _receive(sources: Sources, url: str, wanted: Wanted, moved: Callable[[int], None], stop: Event) -> tuple[str, bool]:
    """Write the missing bytes of the partial file; return its sha256, and True if a part of it existed before."""
    with _opened(wanted.part) as part:
        offset = wanted.here
        if offset > wanted.size:
            moved(-offset)
            part.truncate(offset := 0)
        if offset == wanted.size and wanted.exact:
            return hashlib.file_digest(part, "sha256").hexdigest(), True
        with sources.open(url, offset) as stream:
            size = _size(stream, wanted)
            if stream.start != offset:
                moved(-offset)
                part.truncate(offset := 0)
            digest = hashlib.file_digest(part, "sha256")  # leaves the file at its end
            resumed, mark, marked_at = offset > 0, offset, time.monotonic()
            while offset < size:
                block = stream.read(min(_READ, size - offset))
                if stop.is_set():
                    raise Cancelled
                if not block:
                    raise Dropped(f"the connection ended after {offset:,} of {size:,} bytes")
                _write(part, block)
                digest.update(block)
                offset += len(block)
                moved(len(block))
                if (now := time.monotonic()) - marked_at > sources.timeout:
                    if offset - mark < _SLOWEST * sources.timeout:
                        raise Unavailable(f"only {offset - mark} bytes in {sources.timeout:g} s", everything=True)
                    mark, marked_at = offset, now
            if stream.size is None and stream.read(1):
                moved(-offset)
                part.truncate(0)
                raise Unavailable(f"wrong size (more than the expected {wanted.size:,} bytes)")
        return digest.hexdigest(), resumed


def _size(stream: Stream, wanted: Wanted) -> int:
    """Size of the complete file in bytes. Raises Unavailable if the stream has another one."""
    if wanted.exact and stream.size not in (None, wanted.size):
        raise Unavailable(f"wrong size ({stream.size:,} bytes, expected {wanted.size:,})")
    if wanted.exact:
        return wanted.size
    if stream.size is None:
        raise Unavailable("it does not state the size of the file")
    if stream.size > wanted.size:
        raise Unavailable(f"wrong size ({stream.size:,} bytes, expected at most {wanted.size:,})")
    return stream.size


def _opened(part: Path) -> FileIO:
    """Open the partial file unbuffered, so that a killed process loses no received bytes."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        return FileIO(os.open(part, flags, 0o666), "r+")
    except OSError as error:
        raise StorageFailed(error) from None


def _write(part: FileIO, block: bytes) -> None:
    view = memoryview(block)
    try:
        while view:
            view = view[part.write(view) or 0 :]
    except OSError as error:
        raise StorageFailed(error) from None


def _short(digest: str) -> str:
    return f"{digest[:12]}…"
