"""Local web server with faults on request, which records the requests and the bytes that it sent."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Fault:
    """Fault in the first `times` answers for a file; later answers are correct."""

    times: int = 10**9
    status: int = 0  # answered in place of the file
    drop_after: int | None = None  # bytes of the answer before the connection is cut
    stall_after: int | None = None  # bytes before nothing more comes, with the connection open
    instead: bytes | None = None  # other contents
    ranges: bool = True  # False: a Range is ignored
    length: bool = True  # False: the size is not told, the end of the connection ends the file
    piece: int = 1 << 14  # bytes sent at a time
    pause: float = 0.0  # seconds after each piece
    meanwhile: Callable[[], object] = lambda: None  # called after the first piece
    hold_after: int | None = None  # bytes after which nothing more is sent before `release` is set
    release: threading.Event = field(default_factory=threading.Event)


@dataclass
class Server:
    """Server with `files` by path (without the first slash), `faults` by path ("" for every file), and its records."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)  # path and Range header
    sent: dict[str, int] = field(default_factory=dict)  # bytes of contents by path
    connections: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def asked(self, path: str) -> list[str]:
        """Range headers of the requests for `path`, empty for requests without one."""
        return [span for name, span in self.requests if name == path]


@contextmanager
def serving(**files: bytes) -> Iterator[Server]:
    """Run a server of `files` on a free port of the loopback interface."""
    server = Server(files=dict(files))
    with _running(type("Handler", (_Handler,), {"server_state": server})) as port:
        server.url = f"http://127.0.0.1:{port}/"
        yield server
        server.stopping.set()


@contextmanager
def proxying() -> Iterator[tuple[str, list[str]]]:
    """Run a proxy; give its URL and the list of requested URLs, each answered with b"through the proxy"."""
    asked: list[str] = []
    with _running(type("Handler", (_Proxy,), {"asked": asked})) as port:
        yield f"http://127.0.0.1:{port}", asked


@contextmanager
def _running(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            """Ignore errors: the tests include clients that disconnect."""

    with Quiet(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_state: Server

    def setup(self) -> None:
        self.server_state.connections += 1
        super().setup()

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""

    def do_GET(self) -> None:
        state, path, span = self.server_state, urlsplit(self.path).path[1:], self.headers.get("Range", "")
        state.requests.append((path, span))
        fault = state.faults.get(path) or state.faults.get("") or Fault(0)
        if fault.times > 0:
            fault.times -= 1
        else:
            fault = Fault()
        if fault.status or path not in state.files:
            self.send_error(fault.status or 404)
            return
        whole = state.files[path] if fault.instead is None else fault.instead
        start = int(re.fullmatch(r"bytes=(\d+)-", span)[1]) if span and fault.ranges else 0  # type: ignore[index]
        if start >= len(whole) > 0:
            self.send_error(416)
            return
        self._head(fault, start, len(whole))
        self._body(path, whole[start:], fault)

    def _head(self, fault: Fault, start: int, size: int) -> None:
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if fault.length:
            self.send_header("Content-Length", str(size - start))
        else:
            self.send_header("Connection", "close")
        self.end_headers()

    def _body(self, path: str, body: bytes, fault: Fault) -> None:
        ends = [end for end in (fault.drop_after, fault.stall_after) if end is not None]
        give = min([len(body), *ends])
        for at in range(0, give, fault.piece):
            piece = body[at : min(at + fault.piece, give)]
            # Counted before it is sent: a client that has a piece must find it counted.
            self.server_state.sent[path] = self.server_state.sent.get(path, 0) + len(piece)
            self.wfile.write(piece)
            if at == 0:
                fault.meanwhile()
            time.sleep(fault.pause)
            if fault.hold_after is not None and at + len(piece) >= fault.hold_after:
                _wait(fault.release, self.server_state.stopping)
        if ends:
            time.sleep(0.05)  # the client reads what it has before it learns that there is no more
        if fault.stall_after is not None:
            self.server_state.stopping.wait(20)
        self.close_connection = self.close_connection or bool(ends) or not fault.length


def _wait(release: threading.Event, stopping: threading.Event) -> None:
    """Wait for one of two events."""
    while not (release.wait(0.01) or stopping.is_set()):
        pass


class _Proxy(BaseHTTPRequestHandler):
    asked: list[str]

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = b"through the proxy"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
