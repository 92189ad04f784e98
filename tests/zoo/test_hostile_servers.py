"""Servers without HTTP or with endless answers: requests for cards and files fail in one line after a bounded time."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import pytest

from fusion.errors import CalculationError
from fusion.zoo import registry
from fusion.zoo.fetch import fetch
from fusion.zoo.files import File
from tiny_models import surroundings

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
ANSWERS: dict[str, tuple[Sequence[bytes], bytes | None]] = {  # what comes once, and what comes for ever
    "garbage": ([b"\x16\x03\x01\x02\x00\xff\xfe\n" * 50], None),
    "lines of text": ([b"one line\nanother line\r\n" * 2000], None),
    "an endless header": ([OK], b"X-More: " + b"a" * 6000 + b"\r\n"),
    "endless headers": ([OK], b"X: a\r\n" * 1000),
    "an endless page": ([OK, b"\r\n"], b"<a href='x.toml'>" * 4000),
    "an endless line": ([OK, b"\r\n"], b"#" * 60_000),
    "control characters": ([b"HTTP/1.1 500 \x1b[2J\x07 broken\r\nContent-Length: 0\r\n\r\n"], None),
    "slow headers": ([OK], b""),
}


@contextmanager
def answering(once: Sequence[bytes], always: bytes | None) -> Iterator[str]:
    """Run a server that answers with `once`, then `always` without end; empty values send headers and pauses."""
    end = threading.Event()

    def give(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.recv(4096)
            for piece in itertools.chain(once, itertools.repeat(always) if always is not None else ()):
                connection.sendall(piece or b"X: a\r\n")
                if end.wait(0.0 if piece else 0.05):
                    return

    def serve() -> None:
        while not end.is_set():
            with suppress(TimeoutError):
                threading.Thread(target=give, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            end.set()
            thread.join()


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for zoo in surroundings(tmp_path, monkeypatch):
        monkeypatch.setenv("FUSION_TIMEOUT", "0.5")
        monkeypatch.setattr("fusion.zoo.transfer.BACKOFF_S", 0.01)
        yield zoo


@pytest.mark.parametrize("name", ANSWERS)
def test_requests_to_a_hostile_server_fail_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(*ANSWERS[name]) as url:
        monkeypatch.setenv("FUSION_ZOO", url)
        reasons = [reason for source, reason in registry.catalogue().broken.items() if source.startswith(url)]
        with pytest.raises(CalculationError) as caught:
            fetch("model", [File("x.bin", 10**6, sha256(b"x").hexdigest(), (f"{url}x.bin",))], tmp_path / "into")
    assert reasons
    for line in (*reasons, str(caught.value)):
        assert line.isprintable() and len(line) < 600 and "127.0.0.1" in line
