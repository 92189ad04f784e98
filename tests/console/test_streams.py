"""Output in any encoding, to streams that are closed, full, or without a reader."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fusion.console import streams
from processes import Program


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("words", [("methods",), ("zoo", "list"), ("zoo", "show", "dm21"), ("plugins",), ("--help",)])
def test_listings_print_in_any_encoding(
    program: Program, monkeypatch: pytest.MonkeyPatch, encoding: str, words: tuple[str, ...]
) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(sys, "stdout", streams._opened(io.TextIOWrapper(io.BytesIO(), encoding), writing))
    done = program(*words)
    sys.stdout.flush()
    text = os.read(reading, 1 << 16).decode(encoding)
    os.close(reading)
    os.close(writing)
    assert done.status == 0 and text.count("\n") >= 5


def test_special_characters_have_a_plain_form() -> None:
    stream = io.TextIOWrapper(raw := io.BytesIO(), "ascii")
    streams.any_text(stream)
    stream.write("-8.07 ± 0.01 Ha · ⟨S²⟩ → \udcff☃")
    stream.flush()
    assert raw.getvalue() == b"-8.07 +/- 0.01 Ha - <S2> -> ??"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_lost_on_a_full_device_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    number = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(sys, "stdout", streams._opened(io.TextIOWrapper(io.BytesIO(), "utf-8"), number))
    for _ in range(3):
        print("x" * 20_000, flush=True)
    assert streams.lost() == os.strerror(errno.ENOSPC)
    os.close(number)


def test_a_closed_pipe_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(sys, "stdout", streams._opened(io.TextIOWrapper(io.BytesIO(), "utf-8"), writing))
    print("nobody reads", flush=True)
    assert streams.lost() == ""
    os.close(writing)


def with_closed_output(words: str, environment: dict[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    """Run `fusion WORDS` without a standard output."""
    return subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m fusion {words} >&-"],
        env=environment,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


CLOSED = f"standard output could not be written: {os.strerror(errno.EBADF)}\n"


def test_a_listing_with_closed_output_fails(environment: dict[str, str], tmp_path: Path) -> None:
    listing = with_closed_output("plugins", environment, tmp_path)
    assert (listing.returncode, listing.stdout, listing.stderr) == (1, "", CLOSED)


def test_a_run_with_closed_output_continues(environment: dict[str, str], tmp_path: Path) -> None:
    run = with_closed_output("+method=toy hydra.run.dir=r", environment, tmp_path)
    assert (run.returncode, run.stderr) == (0, CLOSED) and (tmp_path / "r" / "result.json").is_file()
