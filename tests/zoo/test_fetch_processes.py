"""Downloads in separate processes: two at once, a killed one, and one with a limit on file sizes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from server import Fault, Server, serving

FILES = {f"net/{number}.bin": os.urandom(300_000) for number in range(3)}
PROGRAM = """
import json, resource, signal, sys
from fusion.errors import CalculationError, InputError
from fusion.zoo import cache
from fusion.zoo.fetch import fetch
from fusion.zoo.files import File

order = json.loads(sys.argv[1])
if order["limit"]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (order["limit"], order["limit"]))
try:
    fetch("model@1", [File(*file[:-1], tuple(file[-1])) for file in order["files"]], cache.staging("model@1"))
except (CalculationError, InputError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(**FILES) as running:
        yield running


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "staging" / "model@1"


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(server: Server, tmp_path: Path) -> Iterator[Start]:
    """Function `start()` that starts a process which downloads FILES, with an optional limit (bytes) on file sizes."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FUSION_")}
    environment |= {"FUSION_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1", "no_proxy": "127.0.0.1"}
    environment |= {"PYTHONUNBUFFERED": "1"}
    files = [(path, len(text), sha256(text).hexdigest(), [server.url + path]) for path, text in FILES.items()]
    running = []

    def begin(limit: int = 0, timeout: int = 120) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, json.dumps({"files": files, "limit": limit})]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        running.append(
            subprocess.Popen(command, text=True, env=environment | {"FUSION_TIMEOUT": str(timeout)}, **pipes)
        )
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def wait_until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 600
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


def assert_sound(into: Path) -> None:
    there = {path.relative_to(into).as_posix(): path.read_bytes() for path in into.rglob("*") if path.is_file()}
    assert there == FILES


def test_two_processes_download_once(server: Server, start: Start, into: Path) -> None:
    server.faults[""] = held = Fault(hold_after=100_000)
    first = start()
    wait_until(lambda: bool(server.sent))
    second = start()
    assert second.stdout is not None
    waiting = second.stdout.readline()
    held.release.set()
    results = finish(first), finish(second)
    assert [status for status, _, _ in results] == [0, 0]
    assert len(server.requests) == len(FILES)
    assert sum(server.sent.values()) == sum(map(len, FILES.values()))
    assert waiting == "model@1: another process is working on it; waiting until it has finished\n"
    assert results[1][1:] == ("", "")
    assert_sound(into)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_download_is_resumed_by_another_process(
    server: Server, start: Start, into: Path, number: signal.Signals
) -> None:
    server.faults[""] = Fault(hold_after=150_000)
    process = start(timeout=10)  # an interrupted process first waits for what it asked
    wait_until(lambda: sum(path.is_file() and path.stat().st_size > 0 for path in into.rglob("*")) == len(FILES))
    process.send_signal(number)
    assert finish(process)[0] != 0
    assert not [path for path in into.rglob("*.bin") if path.read_bytes() != FILES[path.relative_to(into).as_posix()]]
    server.faults.clear()
    first = len(server.requests)
    status, out, err = finish(start())
    assert (status, err) == (0, "")
    assert_sound(into)
    assert "resumed at" in out
    assert all(span for _, span in server.requests[first:])
    assert sum(server.sent.values()) < sum(map(len, FILES.values())) + 250_000  # what was under way to each thread


def test_a_limit_on_file_sizes_is_one_line(server: Server, start: Start, into: Path) -> None:
    status, _, err = finish(start(limit=200_000))
    assert status == 1
    assert err.startswith("CalculationError: model@1: the disk is full (File too large): ") and err.count("\n") == 1
    assert not [path for path in into.rglob("*") if path.is_file()]
    assert finish(start())[0] == 0
    assert_sound(into)
