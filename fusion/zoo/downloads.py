"""Parallel downloads of several files, each from the first mirror that has it, with a progress line."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import shutil
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from fusion.console.format import console, memory
from fusion.console.phases import REFRESH_S, Line, State, line
from fusion.errors import CalculationError, InputError
from fusion.parallel.processes import rank
from fusion.zoo import cache
from fusion.zoo.files import PARTIAL, File, part_name
from fusion.zoo.sources import NotFound, NotInstalled, Sources, Unavailable
from fusion.zoo.transfer import Cancelled, StorageFailed, Wanted, WrongContents, download, shown

THREADS = 8
_LEAVING_S = 2.0  # for the threads to stop; a thread that still waits for a server then is abandoned
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DONE = object()


class Mirrors:
    """Failures of the mirrors within one download. A mirror is the part of a URL before the file's path."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mentioned: set[str] = set()
        self._failures: dict[str, int] = {}
        self._dead: dict[str, Unavailable] = {}

    def order(self, file: File) -> list[str]:
        """Return the URLs of `file`, mirrors that failed before last; a missing file is no such failure."""
        with self._lock:
            return sorted(file.urls, key=lambda url: self._failures.get(_mirror(file, url), 0))

    def dead(self, file: File, url: str) -> Unavailable | None:
        """Return the failure for which the mirror of `url` is not used any more; None for a usable mirror."""
        with self._lock:
            return self._dead.get(_mirror(file, url))

    def failed(self, file: File, url: str, failure: Unavailable) -> bool:
        """Record a failure; return True if it is the first of this mirror."""
        mirror = _mirror(file, url)
        with self._lock:
            first = mirror not in self._mentioned
            self._mentioned.add(mirror)
            if not isinstance(failure, NotFound):
                self._failures[mirror] = self._failures.get(mirror, 0) + 1
            if failure.everything:
                self._dead[mirror] = failure
        return first


class Bytes(State):
    """State of a phase whose steps are bytes."""

    @property
    def counter(self) -> str:
        unit, size = _unit(self.total or 0)
        return f"{self.step / size:.1f}/{(self.total or 0) / size:.1f} {unit}"


class Downloads:
    """Download of `files` to the directory `into`, which already has `present` bytes of the model."""

    def __init__(self, model: str, files: Sequence[File], into: Path, timeout: float, present: int) -> None:
        self._model, self._into = model, into
        self._todo = deque(files)
        self._total = present + sum(file.size for file in files)
        self._resumed = self._bytes = present + sum(min(self._wanted(file).here, file.size) for file in files)
        self._counting = threading.Lock()
        self._sources, self._mirrors = Sources(timeout), Mirrors()
        self._stop, self._full = threading.Event(), False
        self._events: queue.SimpleQueue[object] = queue.SimpleQueue()

    def run(self) -> None:
        """Download all files; return when every file is in its place. Raises the errors of `fetch`."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(THREADS, len(self._todo)))]
        started = time.monotonic()
        shown_line = line(self._state(0.0)) if rank() == 0 else None
        try:
            for thread in threads:
                thread.start()
            self._attend(len(threads), started, shown_line)
        finally:
            if shown_line is not None:
                shown_line.finish(self._state(time.monotonic() - started))
            self._leave(threads)

    def _attend(self, working: int, started: float, shown_line: Line | None) -> None:
        """Show the threads' progress and messages until all have finished; raise an error of any thread."""
        drawn = started
        while working:
            with contextlib.suppress(queue.Empty):
                event = self._events.get(timeout=REFRESH_S)
                if isinstance(event, BaseException):
                    raise event
                if isinstance(event, str) and shown_line is not None:
                    console().print(event, soft_wrap=True)
                working -= event is _DONE
            if shown_line is not None and (now := time.monotonic()) - drawn >= REFRESH_S:
                shown_line.draw(self._state(now - started))
                drawn = now

    def _leave(self, threads: Sequence[threading.Thread]) -> None:
        """Stop the threads and remove empty partial files and directories."""
        self._stop.set()
        end = time.monotonic() + _LEAVING_S
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        parts = self._into / PARTIAL
        if self._full:
            shutil.rmtree(parts, ignore_errors=True)
        with contextlib.suppress(OSError):  # rmdir fails for a directory that is not empty, which must stay
            for part in parts.iterdir():
                if not part.stat().st_size:
                    part.unlink()
            parts.rmdir()
            self._into.rmdir()

    def _state(self, seconds: float) -> Bytes:
        with self._counting:
            done = self._bytes
        unit, size = _unit(self._total)
        rate = f"{max(0, done - self._resumed) / seconds / 1e6:.1f} MB/s" if seconds > 0 else ""
        resumed = f"resumed at {self._resumed / size:.1f} {unit}" if self._resumed else ""
        return Bytes("downloading", done, self._total, "   ".join(part for part in (rate, resumed) if part))

    def _moved(self, count: int) -> None:
        with self._counting:
            self._bytes += count

    def _work(self) -> None:
        """Run a thread: download file after file until none remains or a thread has failed."""
        try:
            while not self._stop.is_set():
                try:
                    file = self._todo.popleft()
                except IndexError:
                    break
                self._obtain(file)
        except Cancelled:
            pass
        except StorageFailed as failure:
            self._events.put(self._storage_error(failure.error))
        except BaseException as error:  # the main thread raises it again
            self._events.put(error)
        self._events.put(_DONE)

    def _obtain(self, file: File) -> None:
        """Download one file from the first mirror that has it."""
        wanted, failures = self._wanted(file), list[tuple[str, Unavailable]]()
        urls = self._mirrors.order(file)
        for number, url in enumerate(urls, 1):
            try:
                if dead := self._mirrors.dead(file, url):
                    raise dead
                download(self._sources, url, wanted, self._moved, self._stop)
            except Unavailable as failure:
                first = self._mirrors.failed(file, url, failure)
                if first and number < len(urls):
                    self._events.put(self._remark(url, failure))
                failures.append((url, failure))
            else:
                self._place(wanted.part, self._into / file.path)
                return
        raise self._given_up(file, failures)

    def _wanted(self, file: File) -> Wanted:
        return Wanted(self._into / PARTIAL / part_name(file), file.size, file.sha256, file.exact)

    def _place(self, part: Path, target: Path) -> None:
        """Flush a complete and verified file to the disk and give it its name."""
        try:
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(part, target)
        except OSError as error:
            raise StorageFailed(error) from None

    def _remark(self, url: str, failure: Unavailable) -> str:
        if isinstance(failure, WrongContents):
            problem = f"the file from {shown(url)} has the {failure}; it was removed"
        else:
            problem = f"{shown(url)}: {failure}"
        return f"{self._model}: {problem}; trying the next mirror"

    def _given_up(self, file: File, failures: Sequence[tuple[str, Unavailable]]) -> Exception:
        if not failures:
            return InputError(
                f"{self._model}: there is no URL for {file.path}; set FUSION_MIRROR=URL to a place that has it"
            )
        reasons = "; ".join(f"{shown(url)}: {failure}" for url, failure in failures)
        kind = InputError if all(isinstance(failure, NotInstalled) for _, failure in failures) else CalculationError
        return kind(f"{self._model}: {file.path} could not be downloaded: {reasons}")

    def _storage_error(self, error: OSError) -> Exception:
        """Return the error for a failed write to the cache; a full disk also marks partial files for removal."""
        if error.errno not in _FULL:
            return cache.unwritable(self._into, error)
        self._full = True
        return CalculationError(
            f"{self._model}: the disk is full ({error.strerror}): {memory(self._total)} are needed in {self._into}; "
            "unfinished files are removed; set FUSION_CACHE=DIR to use another place"
        )


def _unit(total: int) -> tuple[str, float]:
    """Return the unit that suits parts of `total` bytes, and its size in bytes."""
    return ("GB", 1e9) if total >= 1e9 else ("MB", 1e6) if total >= 1e6 else ("kB", 1e3)


def _mirror(file: File, url: str) -> str:
    return url.removesuffix(file.path)
