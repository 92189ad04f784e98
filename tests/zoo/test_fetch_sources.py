"""Downloads through protocols of fsspec, and through a proxy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import fsspec
import pytest

from fusion.console.format import console
from fusion.errors import CalculationError, InputError
from fusion.zoo import cache
from fusion.zoo.fetch import fetch
from fusion.zoo.files import PARTIAL, File, part_name
from server import proxying, serving

BYTES = os.urandom(600_000)


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for variable in list(os.environ):
        if variable.startswith("FUSION_") or variable.lower().endswith("_proxy"):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    console.cache_clear()
    yield
    console.cache_clear()


@pytest.fixture
def into() -> Path:
    return cache.staging("model")


def published(*urls: str, contents: bytes = BYTES) -> File:
    return File("a/weights.bin", len(contents), sha256(contents).hexdigest(), urls)


@pytest.mark.parametrize("protocol", ["file", "path", "memory"])
@pytest.mark.parametrize("begun", [0, 250_000, 600_000, 700_000])
def test_protocols_of_fsspec_are_supported(protocol: str, begun: int, into: Path, tmp_path: Path) -> None:
    if protocol == "memory":
        url = "memory://mirror/weights.bin"
        fsspec.filesystem("memory").pipe("/mirror/weights.bin", BYTES)
    else:
        (tmp_path / "weights.bin").write_bytes(BYTES)
        url = f"{'file://' if protocol == 'file' else ''}{tmp_path}/weights.bin"
    file = published(url)
    if begun:
        (into / PARTIAL).mkdir(parents=True)
        (into / PARTIAL / part_name(file)).write_bytes((BYTES + bytes(100_000))[:begun])
    fetch("model", [file], into)
    assert (into / "a/weights.bin").read_bytes() == BYTES
    assert not (into / PARTIAL).exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a file that blocks who reads it")
def test_a_hanging_disk_is_abandoned(into: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_TIMEOUT", "1")
    os.mkfifo(tmp_path / "weights.bin")
    with pytest.raises(CalculationError, match=r"no answer for 1 s$"):
        fetch("model", [published(f"file://{tmp_path}/weights.bin")], into)


def test_a_missing_file_of_a_directory_mirror_is_named(into: Path, tmp_path: Path) -> None:
    with serving(**{"a/weights.bin": BYTES}) as server:
        fetch("model", [published(f"file://{tmp_path}/a/weights.bin", server.url + "a/weights.bin")], into)
        assert len(server.requests) == 1
    assert (into / "a/weights.bin").read_bytes() == BYTES


@pytest.mark.parametrize(
    "url, needs",
    [
        ("abfs://bucket/x", r"abfs:// needs a package: pip install adlfs"),
        ("nonsense://bucket/x", r"no protocol nonsense:// is known to fsspec"),
    ],
)
def test_a_protocol_that_is_not_installed_is_named(
    url: str, needs: str, into: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=f"^model: a/weights.bin could not be downloaded: {url}: {needs}$"):
        fetch("model", [published(url)], into)
    with serving(**{"a/weights.bin": BYTES}) as server:
        fetch("model", [published(url, server.url + "a/weights.bin")], into)
    assert (into / "a/weights.bin").read_bytes() == BYTES
    assert "; trying the next mirror" in capsys.readouterr().out


def test_a_file_without_a_url_is_refused(into: Path) -> None:
    with pytest.raises(InputError, match="set FUSION_MIRROR=URL"):
        fetch("model", [published()], into)


def test_the_proxy_of_the_environment_is_used(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = b"through the proxy"
    file = published("http://far.invalid/a/weights.bin", contents=contents)
    with proxying() as (proxy, asked):
        monkeypatch.setenv("http_proxy", proxy)
        fetch("model", [file], into)
        assert asked == ["http://far.invalid/a/weights.bin"]
        with serving(**{"a/weights.bin": contents}) as server:
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            (into / "a/weights.bin").unlink()
            fetch("model", [published(server.url + "a/weights.bin", contents=contents)], into)
            assert len(server.requests) == len(asked) == 1
    assert (into / "a/weights.bin").read_bytes() == contents


def test_the_user_chooses_the_cache_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FUSION_CACHE", "~/models")
    assert cache.directory() == tmp_path / "models"
    monkeypatch.setenv("FUSION_CACHE", "")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache.directory() == tmp_path / ".cache" / "fusion"
    assert not list(tmp_path.rglob("*"))  # nothing is made before something is written
    with pytest.raises(InputError, match="not a name of a model"):
        cache.staging("../x")
