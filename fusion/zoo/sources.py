"""Reading of URLs from a byte offset through fsspec, with short explanations of failures."""

from __future__ import annotations

import errno
import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from fusion.files import bounds

_AGAIN = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses that are worth another try
_BLOCK = 1 << 20  # bytes per request to an object store
_LONGEST_INDEX = 1 << 22  # bytes of the index page of a directory
_LINK = re.compile(r"""href\s{0,9}=\s{0,9}["']([^"'<>]{1,999})["']""", re.IGNORECASE)
_LONGEST_WAIT_S = 20.0  # longest Retry-After that is respected


class Unavailable(Exception):
    """A URL cannot deliver the file, for the reason in the text; with `everything`, its server can deliver no file."""

    def __init__(self, reason: str, everything: bool = False) -> None:
        super().__init__(reason)
        self.everything = everything


class NotFound(Unavailable):
    """The server answers, but has no such file."""


class NotInstalled(Unavailable):
    """The protocol of the URL needs a package that is missing, or is unknown."""


class Dropped(Exception):
    """The connection broke or the server is busy: try again, after `wait_s` seconds if the server asked for that."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = min(wait_s, _LONGEST_WAIT_S)


@dataclass(frozen=True)
class Stream:
    """Open URL: `give(count)` reads from byte `start` on; `size` is that of the file in bytes, None if unknown."""

    file: Any
    give: Callable[[int], bytes]
    start: int
    size: int | None
    timeout: float

    def read(self, count: int) -> bytes:
        """Read at most `count` bytes; none at the end. Raises Unavailable or Dropped."""
        with _explained(self.timeout):
            return self.give(count)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


class Sources:
    """Opens the URLs of one download; files from the same web server share connections.

    `timeout`, in seconds, applies to connecting and to each piece that is read. Web servers are reached through the
    proxies of the environment; fsspec documents the settings of other protocols.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._lock = threading.Lock()
        self._web: Any = None

    def open(self, url: str, offset: int) -> Stream:
        """Open `url` at byte `offset`, or at its beginning if a web server does not support ranges.

        Raises Unavailable (NotInstalled if fsspec lacks the protocol) or Dropped.
        """
        import fsspec

        protocol = fsspec.utils.get_protocol(url)
        with _explained(self.timeout):
            if protocol in ("http", "https"):
                return self._open_web(url, offset)
            _require(protocol)
            file = _within(self.timeout, lambda: _open(url, offset))
        size = getattr(file, "size", None)
        size = size if isinstance(size, int) else None
        return Stream(file, lambda count: _within(self.timeout, lambda: file.read(count)), offset, size, self.timeout)

    def content(self, url: str, most: int) -> bytes:
        """Read a short file of at most `most` bytes completely within the timeout.

        Raises Unavailable or Dropped.
        """
        content, end = b"", time.monotonic() + self.timeout
        with self.open(url, 0) as stream:
            while piece := stream.read(most + 1 - len(content)):
                content += piece
                if len(content) > most:
                    raise Unavailable(f"it is longer than {most:,} bytes")
                if time.monotonic() > end:
                    raise Unavailable(f"only {len(content)} bytes in {self.timeout:g} s", everything=True)
        return content

    def names(self, url: str) -> list[str]:
        """List the names in the directory `url`, sorted; for a web server, those that its index page links to.

        Raises Unavailable or Dropped.
        """
        import fsspec

        protocol = fsspec.utils.get_protocol(url)
        if protocol in ("http", "https"):
            links = _LINK.findall(self.content(url, _LONGEST_INDEX).decode(errors="replace"))
            paths = {urljoin(url, link).removeprefix(url) for link in links}
            return sorted(path for path in paths if path and not {"/", "?"} & set(path))
        with _explained(self.timeout):
            _require(protocol)
            filesystem, path = fsspec.core.url_to_fs(url)
            entries = _within(self.timeout, lambda: filesystem.ls(path, detail=False))
        return sorted(str(entry).rpartition("/")[2] for entry in entries)

    def _web_session(self) -> Any:
        """Return fsspec's file system of web servers, with timeouts and connections of this download alone."""
        import aiohttp
        import fsspec

        with self._lock:
            if self._web is None:
                patience = aiohttp.ClientTimeout(
                    total=None, connect=self.timeout, sock_connect=self.timeout, sock_read=self.timeout
                )
                session = {"timeout": patience, "trust_env": True}
                self._web = fsspec.filesystem("http", client_kwargs=session, skip_instance_cache=True)
            return self._web

    def _open_web(self, url: str, offset: int) -> Stream:
        import aiohttp

        web = self._web_session()
        # A compressed answer has other byte offsets than the file.
        headers = {**web.kwargs.get("headers", {}), "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        # Passing the size avoids an extra HEAD request; block_size=0 makes fsspec stream.
        try:
            file = _within(self.timeout, lambda: web.open(url, "rb", block_size=0, size=1, headers=headers))
        except FileNotFoundError:
            raise NotFound("404 not found") from None
        except aiohttp.ClientResponseError as error:
            if error.status != 416 or not offset:
                raise
            return self._open_web(url, 0)
        answer = file.r
        if answer.status == 206:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
            if span is None or int(span[1]) != offset:
                file.close()
                raise Unavailable("it answers with other bytes than the requested ones")
            return Stream(file, file.read, offset, None if span[2] == "*" else int(span[2]), self.timeout)
        encoded = answer.headers.get("Content-Encoding", "identity") != "identity"
        return Stream(file, file.read, 0, None if encoded else answer.content_length, self.timeout)


def _open(url: str, offset: int) -> Any:
    """Open `url` at byte `offset` with its fsspec protocol."""
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(url)
    file = filesystem.open(path, "rb", block_size=_BLOCK)
    if offset:
        file.seek(offset)
    return file


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """Return the result of `call`. Raises TimeoutError if it takes longer.

    Not every protocol has its own timeout, and none can be interrupted: a hanging call is abandoned in its thread.
    """
    outcome: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcome.put((call(), None))
        except Exception as error:  # raised again below
            outcome.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        value, error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return value


def _require(protocol: str) -> None:
    """Raise NotInstalled if fsspec cannot serve `protocol`."""
    from fsspec.registry import get_filesystem_class, known_implementations

    try:
        get_filesystem_class(protocol)
    except ValueError:
        raise NotInstalled(f"no protocol {protocol}:// is known to fsspec", everything=True) from None
    except ImportError as error:
        package = known_implementations[protocol]["class"].partition(".")[0].replace("_", "-")
        cause = error.__cause__
        if package == "fsspec":
            package = getattr(cause, "name", None) or str(error)
        raise NotInstalled(f"{protocol}:// needs a package: pip install {package}", everything=True) from None


@contextmanager
def _explained(timeout: float) -> Iterator[None]:
    """Turn exceptions of fsspec and its libraries in the block into Unavailable or Dropped."""
    try:
        yield
    except (Unavailable, Dropped):
        raise
    except Exception as error:  # each protocol has its own exceptions
        raise _explanation(error, timeout) from error


def _explanation(error: Exception, timeout: float) -> Unavailable | Dropped:
    import aiohttp

    match error:
        case FileNotFoundError():
            return NotFound("not found")
        case aiohttp.ClientResponseError():
            text = f"{error.status} {bounds.reason(error.message)}".strip()
            if error.status not in _AGAIN:
                return Unavailable(text)
            retry_after = error.headers.get("Retry-After", "") if error.headers else ""
            return Dropped(text, float(retry_after) if retry_after.isdecimal() else 0.0)
        case TimeoutError():
            return Unavailable(f"no answer for {timeout:g} s", everything=True)
        case aiohttp.ClientSSLError():
            return Unavailable(f"no secure connection: {_words(error)}", everything=True)
        case aiohttp.ClientProxyConnectionError():
            why = f"the proxy {error.host}:{error.port}: {_connection(error.os_error)}"
            return Unavailable(why, everything=True)
        case aiohttp.ClientConnectorError():
            return Unavailable(_connection(error.os_error), everything=True)
        case aiohttp.InvalidURL():
            return Unavailable("not a valid URL", everything=True)
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError() | ConnectionError():
            return Dropped("the connection was dropped")
        case aiohttp.ClientOSError():
            return Dropped(f"the connection failed: {_words(error)}")
        case OSError():
            return Unavailable(_words(error))
    return Unavailable(f"{type(error).__name__}: {_words(error)}")


def _connection(error: OSError) -> str:
    """Describe the reason of a failed connection."""
    if isinstance(error, socket.gaierror):
        return "no such host"
    return "connection refused" if error.errno == errno.ECONNREFUSED else _words(error)


def _words(error: Exception) -> str:
    """Message of an exception in one line."""
    system = error.strerror if isinstance(error, OSError) else None
    return system or (bounds.reason(error) if str(error).strip() else "")
