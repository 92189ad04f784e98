"""Downloads from a real web server that drops, stalls, sends wrong bytes or fails; the next download works."""

from __future__ import annotations

import os
import random
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from fusion.console.format import console
from fusion.errors import CalculationError, InputError
from fusion.zoo import cache, transfer
from fusion.zoo.fetch import fetch
from fusion.zoo.files import PARTIAL, File
from server import Fault, Server, serving

BYTES = random.Random(1).randbytes(400_000)
NAME = "net/weights.bin"


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for variable in list(os.environ):
        if variable.startswith("FUSION_") or variable.lower().endswith("_proxy"):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(transfer, "BACKOFF_S", 0.01)
    console.cache_clear()
    yield
    console.cache_clear()


@pytest.fixture
def into() -> Path:
    return cache.staging("model@1")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(**{NAME: BYTES}) as running:
        yield running


@pytest.fixture
def mirror() -> Iterator[Server]:
    """Second server, without faults."""
    with serving(**{NAME: BYTES}) as running:
        yield running


def published(*servers: Server, path: str = NAME, contents: bytes = BYTES) -> File:
    return File(path, len(contents), sha256(contents).hexdigest(), tuple(server.url + path for server in servers))


def assert_sound(into: Path) -> None:
    """Check that every complete file has the right contents, and that there are no other files."""
    assert (into / NAME).read_bytes() == BYTES
    assert not (into / PARTIAL).exists()


def assert_nothing(into: Path) -> None:
    assert not [path for path in into.rglob("*") if path.is_file()]


def test_a_dropped_connection_is_resumed(server: Server, into: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.faults[NAME] = Fault(times=2, drop_after=150_000)
    fetch("model", [published(server)], into)
    assert_sound(into)
    first, second, third = (int(span[6:-1] or 0) for span in server.asked(NAME))
    assert first == 0 < second <= 150_000 < third
    assert server.sent[NAME] < len(BYTES) + 130_000  # what the client had in its hands when the connection broke
    assert "400.0/400.0 kB" in capsys.readouterr().out


def test_files_of_an_earlier_call_are_kept(server: Server, into: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.faults[NAME] = Fault(drop_after=30_000)
    with pytest.raises(CalculationError, match=r"the connection was dropped, 5 times$"):
        fetch("model", [published(server)], into)
    (part,) = (into / PARTIAL).iterdir()
    got = part.stat().st_size
    assert 0 < got <= server.sent[NAME] == 150_000
    server.faults.clear()
    fetch("model", [published(server)], into)
    assert_sound(into)
    assert server.asked(NAME)[-1] == f"bytes={got}-"
    assert f"resumed at {got / 1000:.1f} kB" in capsys.readouterr().out


def test_a_server_without_ranges_restarts_the_file(server: Server, into: Path) -> None:
    server.faults[NAME] = Fault(times=2, drop_after=150_000, ranges=False)
    with pytest.raises(CalculationError, match="dropped"):
        server.faults[NAME] = Fault(drop_after=150_000, ranges=False)
        fetch("model", [published(server)], into)
    server.faults[NAME] = Fault(ranges=False)
    fetch("model", [published(server)], into)
    assert_sound(into)


def test_a_busy_server_is_asked_again(server: Server, into: Path) -> None:
    server.faults[NAME] = Fault(times=2, status=503)
    fetch("model", [published(server)], into)
    assert_sound(into)
    assert len(server.requests) == 3


def test_wrong_bytes_are_replaced_by_the_next_mirror(
    server: Server, mirror: Server, into: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = bytes(len(BYTES))
    server.faults[NAME] = Fault(instead=bad)
    fetch("model", [published(server, mirror)], into)
    assert_sound(into)
    said = re.search(
        rf"^model: the file from {server.url}{NAME} has the wrong contents \(sha256 (\w+)…, expected (\w+)…\); "
        "it was removed; trying the next mirror$",
        capsys.readouterr().out,
        re.MULTILINE,
    )
    assert said and sha256(bad).hexdigest().startswith(said[1]) and sha256(BYTES).hexdigest().startswith(said[2])


def test_wrong_bytes_everywhere_are_one_error_and_are_removed(server: Server, mirror: Server, into: Path) -> None:
    server.faults[NAME] = mirror.faults[NAME] = Fault(instead=bytes(len(BYTES)))
    with pytest.raises(CalculationError) as caught:
        fetch("model", [published(server, mirror)], into)
    assert_nothing(into)
    assert str(caught.value).count("wrong contents") == 2 and "\n" not in str(caught.value)
    assert server.url in str(caught.value) and mirror.url in str(caught.value)
    mirror.faults.clear()
    fetch("model", [published(server, mirror)], into)
    assert_sound(into)


def test_a_wrong_beginning_is_not_attributed_to_the_next_mirror(
    server: Server, mirror: Server, into: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.faults[NAME] = Fault(instead=bytes(len(BYTES)), drop_after=10_000)
    fetch("model", [published(server, mirror)], into)
    assert_sound(into)
    first, second = mirror.asked(NAME)
    assert first.startswith("bytes=") and second == ""
    assert "wrong contents" not in capsys.readouterr().out


@pytest.mark.parametrize("told", [True, False])
def test_a_file_that_is_too_long_is_refused(server: Server, into: Path, told: bool) -> None:
    server.faults[NAME] = Fault(instead=BYTES + bytes(20_000_000), length=told)
    with pytest.raises(CalculationError, match=r"wrong size \((20,400,000 bytes|more than the), expected 400,000"):
        raise_more_plainly(lambda: fetch("model", [published(server)], into))
    assert_nothing(into)
    assert server.sent.get(NAME, 0) < 10_000_000  # none if the stated length is already too long
    server.faults.clear()
    fetch("model", [published(server)], into)
    assert_sound(into)


def raise_more_plainly(call: Callable[[], None]) -> None:
    """Raise the same message for both wordings of a wrong size."""
    try:
        call()
    except CalculationError as error:
        raise CalculationError(str(error).replace("more than the expected", "more than the, expected")) from None


def test_a_file_of_unknown_size_is_resumed_and_must_state_its_size(server: Server, into: Path) -> None:
    """The digest alone is published, and a largest size."""
    unknown = replace(published(server), size=500_000, exact=False)
    server.faults[NAME] = Fault(instead=BYTES, length=False)
    with pytest.raises(CalculationError, match="does not state the size of the file"):
        fetch("model", [unknown], into)
    server.faults[NAME] = Fault(drop_after=150_000)
    fetch("model", [unknown], into)
    assert_sound(into)
    assert server.asked(NAME)[-2:] == ["bytes=150000-", "bytes=300000-"]


def test_a_mirror_with_a_shorter_file_is_skipped(server: Server, mirror: Server, into: Path) -> None:
    mirror.faults[NAME] = Fault(drop_after=50_000)
    server.faults[NAME] = Fault(instead=BYTES[:1000])
    with pytest.raises(CalculationError, match=r"dropped, 5 times; .* wrong size \(1,000 bytes, expected 400,000\)$"):
        fetch("model", [published(mirror, server)], into)
    assert server.asked(NAME)[-1] == ""  # it had answered that it has no such range
    mirror.faults.clear()
    fetch("model", [published(server, mirror)], into)
    assert_sound(into)
    assert mirror.asked(NAME)[-1]  # the beginning was of use


def test_a_file_that_is_too_short_is_refused(server: Server, mirror: Server, into: Path) -> None:
    server.faults[NAME] = Fault(instead=BYTES[:1000])
    with pytest.raises(CalculationError, match=r"wrong size \(1,000 bytes, expected 400,000\)"):
        fetch("model", [published(server)], into)
    assert_nothing(into)
    fetch("model", [published(server, mirror)], into)
    assert_sound(into)


@pytest.mark.parametrize("begun", [None, 100_000])
def test_a_stalled_server_is_abandoned(
    server: Server, mirror: Server, into: Path, begun: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSION_TIMEOUT", "1")
    server.faults[""] = Fault(stall_after=begun or 0)
    with pytest.raises(CalculationError, match=r"no answer for 1 s$"):
        fetch("model", [published(server)], into)
    asked = len(server.requests)
    fetch("model", [published(server, mirror)], into)
    assert len(server.requests) == asked + 1  # a server that fell silent is not asked again
    assert_sound(into)
    (span,) = mirror.asked(NAME)
    assert bool(span) == bool(begun)  # what came before it fell silent is used


@pytest.mark.parametrize("piece", [10, 100])
def test_a_very_slow_server_is_abandoned(
    server: Server, into: Path, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSION_TIMEOUT", "1")
    server.faults[NAME] = Fault(piece=piece, pause=0.05)
    with pytest.raises(CalculationError, match=r"only \d+ bytes in 1 s$"):
        fetch("model", [published(server)], into)


def test_each_url_is_listed_with_its_reason(server: Server, into: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/x"
        urls = (closed, server.url + "gone", server.url + "secret", "http://user:pass@nowhere.invalid/x?key=1")
        server.faults["secret"] = Fault(status=403)
        with pytest.raises(CalculationError) as caught:
            fetch("model", [File(NAME, len(BYTES), sha256(BYTES).hexdigest(), urls)], into)
    assert str(caught.value) == (
        f"model: {NAME} could not be downloaded: {closed}: connection refused; {server.url}gone: 404 not found; "
        f"{server.url}secret: 403 Forbidden; http://nowhere.invalid/x: no such host"
    )
    assert_nothing(into)


def test_a_dead_mirror_costs_its_timeout_once(
    server: Server, mirror: Server, into: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSION_TIMEOUT", "3")
    names = [f"{number}.bin" for number in range(60)]
    server.files |= (files := {name: name.encode() for name in names})
    mirror.files |= files
    server.faults[""] = Fault(stall_after=0)
    fetch("model", [published(server, mirror, path=name, contents=name.encode()) for name in names], into)
    assert all((into / name).read_text() == name for name in names)
    assert len(server.requests) <= 8  # one of each thread
    assert capsys.readouterr().out.count("no answer for 3 s; trying the next mirror") == 1


def test_a_mirror_without_one_file_still_serves_the_others(server: Server, mirror: Server, into: Path) -> None:
    names = [f"{number}.bin" for number in range(30)]
    mirror.files = {name: name.encode() for name in names}
    server.files = {name: name.encode() for name in names[1:]}
    fetch("model", [published(server, mirror, path=name, contents=name.encode()) for name in names], into)
    assert [path for path, _ in mirror.requests] == names[:1]


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "soon"])
def test_a_wrong_timeout_is_refused(given: str, server: Server, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_TIMEOUT", given)
    with pytest.raises(InputError, match=f"^FUSION_TIMEOUT={given} must be a number of seconds above zero$"):
        fetch("model", [published(server)], into)


def test_a_download_stops_at_the_first_unavailable_file(server: Server, into: Path) -> None:
    names = [f"{number}.bin" for number in range(200)]
    with pytest.raises(CalculationError) as caught:
        fetch("model", [published(server, path=name, contents=b"x") for name in names], into)
    assert str(caught.value).count("404 not found") == 1
    assert len(server.requests) < 30


def test_connections_are_used_again(server: Server, into: Path) -> None:
    names = [f"{number}.bin" for number in range(100)]
    server.files.update({name: name.encode() for name in names})
    fetch("model", [published(server, path=name, contents=name.encode()) for name in names], into)
    assert len(server.requests) == 100
    assert server.connections <= 16


def test_verified_files_are_not_requested_again(server: Server, into: Path) -> None:
    server.files["other"] = b"other"
    files = [published(server), published(server, path="other", contents=b"other")]
    fetch("model", files, into)
    server.requests.clear()
    fetch("model", files, into)
    assert not server.requests
    (into / "other").write_text("OTHER")
    fetch("model", files, into)
    assert [path for path, _ in server.requests] == ["other"]
    assert (into / "other").read_text() == "other"


def test_offline_names_the_missing_files(server: Server, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_OFFLINE", "1")
    with pytest.raises(InputError, match=r"^model: missing \(400 kB\), and FUSION_OFFLINE forbids downloading: unset"):
        fetch("model", [published(server)], into)
    assert not server.requests and not into.exists()
    monkeypatch.setenv("FUSION_OFFLINE", "0")
    fetch("model", [published(server)], into)
    monkeypatch.setenv("FUSION_OFFLINE", "1")
    fetch("model", [published(server)], into)
    assert_sound(into)


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/x", "a\\x", "C:/x", "a//x", "", ".", "a/./x", ".partial/x", "a\0", "~\n", "a/"]
)
def test_paths_out_of_the_directory_are_refused(path: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a model's file"):
        File(path, 1, "0" * 64, ())


@pytest.mark.parametrize("link", ["net", NAME, PARTIAL])
def test_symbolic_links_are_refused(server: Server, into: Path, link: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (into / link).parent.mkdir(parents=True)
    (into / link).symlink_to(elsewhere)
    with pytest.raises(InputError, match="is a symbolic link"):
        fetch("model", [published(server)], into)
    assert not list(elsewhere.iterdir())
    (into / link).unlink()
    fetch("model", [published(server)], into)
    assert_sound(into)


def test_a_cache_that_cannot_be_written_to_is_one_line(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match=r"^the cache cannot be written to: .*; set FUSION_CACHE=DIR to use another$"):
        fetch("model", [published(server)], cache.staging("model"))
    assert not server.requests


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root may mount a file system")
def test_read_only_and_full_file_systems_are_one_line(
    server: Server, mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        monkeypatch.setenv("FUSION_CACHE", str(disk))
        into = cache.staging("model@1")
        full = disk / "other"
        server.faults[NAME] = Fault(meanwhile=lambda: bool(full.write_bytes(bytes(350_000))), pause=0.002)
        with pytest.raises(CalculationError, match=r"^model: the disk is full \(No space left on device\): 400 kB are"):
            fetch("model", [published(server)], into)
        assert_nothing(into)
        with pytest.raises(CalculationError, match=r"^model: 400 kB are needed in .* only 2\d\d kB are free"):
            fetch("model", [published(mirror)], into)
        assert not mirror.requests
        full.unlink()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(InputError, match=r"the cache cannot be written to: .*: Read-only file system"):
            fetch("model", [published(mirror)], into)
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        fetch("model", [published(mirror)], into)
        assert_sound(into)
    finally:
        subprocess.run(["umount", disk], check=True)
