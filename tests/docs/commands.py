"""Commands whose calculation is left out: they are composed, built and checked."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from processes import Program


def assert_right(command: str, program: Program, trained: Path) -> None:
    """Run a command in the directory of the fixture `files`, with `checked_only`; skip it if a package is missing."""
    given = re.sub(r"\bFILE(?!\.)\b", "FILE.extxyz", command).replace("RUN_DIR", str(trained))
    if "weights=mine" in command:
        assert program("zoo", "add", str(trained), "--name", "mine").status == 0
    done = program(*shlex.split(given)[1:])
    if "pip install" in done.err or "FUSION_OFFLINE forbids downloading" in done.err:
        pytest.skip(done.err)
    assert done.status == 0 and not done.err, done.err
    assert done.out
