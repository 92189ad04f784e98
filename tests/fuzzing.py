"""Fuzzing of readers: they must read damaged copies of small valid files, or raise the program's own errors."""

from __future__ import annotations

import os
import re
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fusion.errors import CalculationError, InputError

EXAMPLES = int(os.environ.get("FUSION_FUZZ_EXAMPLES", "40"))
"""Number of damaged files for each reader."""
_CPU_S = 5.0

Files = Mapping[str, bytes]
Damage = tuple[int, int, int]

_TOKENS = [
    *(b"-1", b"0", b"1e999", b"nan", b"-inf", b"1000000000", b"99999999999999999999", b"9" * 5000, b"0x" + b"f" * 5000),
    *("é€\u2028\u0661".encode(), b"\xff\xfe", b"\0", b"\r", b"\n\n", b"\t", b'"', b"'", b"\\", b"#", b",", b"=", b":"),
    *(b"[" * 300, b"{" * 300, b"(" * 300, b"]", b"}", b"../../x", b"/etc/passwd", b"${oc.env:HOME}", b"${a}"),
    *(b"!!python/name:os.system ", b"&a ", b"*a", b"- ", b"null", b"[]", b"{}", b"true", b"<<: *a\n"),
]


class Slow(BaseException):
    """Raised when a reader takes more than its CPU time; no reader catches it."""


def damaged(files: Files, damages: list[Damage]) -> dict[str, bytes]:
    """Damage `files`: flip bits, truncate, remove or repeat lines, insert words or replace numbers by words."""
    result = dict(files)
    for kind, place, word in damages:
        name = sorted(result)[word % len(result)]
        content, token = bytearray(result[name]), _TOKENS[word % len(_TOKENS)]
        at = place % (len(content) + 1)
        lines = bytes(content).splitlines(keepends=True) or [b""]
        line = place % len(lines)
        match kind:
            case 0 if content:
                content[at - 1] ^= 1 << word % 8
            case 1:
                del content[at:]
            case 2:
                content[at:at] = token
            case 3:
                content = bytearray(b"".join(lines[:line] + lines[line + 1 :]))
            case 4:
                content = bytearray(b"".join([*lines[:line], *lines[line : line + 1] * 2, *lines[line + 1 :]]))
            case 5 if numbers := list(re.finditer(rb"-?\d+(\.\d+)?", content)):
                number = numbers[place % len(numbers)]
                content[number.start() : number.end()] = token
            case 6:
                del content[at : at + 1 + word % 40]
        result[name] = bytes(content)
    return result


@contextmanager
def limited() -> Iterator[None]:
    """Raise Slow in the block after `_CPU_S` seconds of CPU time, independent of the load of the machine."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Slow(f"more than {_CPU_S:g} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, _CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)


def check(files: Files, read: Callable[[Path], object]) -> None:
    """Raise AssertionError unless `read` reads `files` in a directory, or refuses them in one line, without writing."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        directory, elsewhere = Path(name) / "files", Path(name) / "cwd"
        elsewhere.mkdir()
        patch.chdir(elsewhere)
        patch.setenv("FUSION_CACHE", str(elsewhere / "cache"))
        for path, content in files.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_bytes(content)
        try:
            with limited():
                read(directory)
        except (InputError, CalculationError) as error:
            assert "\n" not in str(error)
        left = {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
        assert left == dict(files)
        assert not list(elsewhere.iterdir())


def fuzzed(make: Callable[[], Files], read: Callable[[Path], object]) -> None:
    """Check that `read` reads the files of `make`, and reads or refuses `EXAMPLES` damaged forms of them."""
    files = make()
    with tempfile.TemporaryDirectory() as name:
        for path, content in files.items():
            (Path(name) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(name) / path).write_bytes(content)
        read(Path(name))
    numbers = st.integers(0, 2**20)

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(st.tuples(st.integers(0, 6), numbers, numbers), min_size=1, max_size=4))
    def each(damages: list[Damage]) -> None:
        check(damaged(files, damages), read)

    each()
