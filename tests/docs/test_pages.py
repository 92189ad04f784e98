"""Commands and Python code on the pages of docs/ work as printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commands import assert_right
from pages import Block, blocks, pages

from processes import Program, fusion

ROOT = Path(__file__).parents[2]
MARKS = r"pattern|checked|refused|tested: (?P<test>\S+)|by hand: \d{4}-\d{2}-\d{2}, .+"
BLOCKS = [block for page in pages() for block in blocks(page)]
RUN = [page for page in pages() if any(block.commands and not block.mark for block in blocks(page))]
CHECKED = [
    command for block in BLOCKS if re.match("checked|by hand", block.mark) for command in block.commands
    if command.startswith("fusion ")
]  # fmt: skip


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.page)
def test_a_block_states_its_language_and_how_it_is_tested(block: Block) -> None:
    assert block.language, "sh, python, text, yaml, ..."
    if block.mark and block.language in ("sh", "python"):
        mark = re.fullmatch(MARKS, block.mark)
        assert mark and (mark["test"] is None or (ROOT / mark["test"]).is_file())
    if block.language == "text":
        assert not re.search(r"^(fusion|python -m fusion) [+a-z]", block.text, re.MULTILINE), "commands belong in sh"


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_a_page_works_as_printed(page: str, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run commands and code of a page one after another in one directory, as its reader would."""
    monkeypatch.setenv("FUSION_CACHE", str(published))
    monkeypatch.setenv("FUSION_MIRROR", f"file://{os.environ['FUSION_TEST_DATA']}/weights")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))  # models that the page publishes
    for block in blocks(page):
        if block.language == "python" and not block.mark:
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "MPLBACKEND": "Agg"}
            command = [sys.executable, "-c", block.text]
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        for command in block.commands if block.mark in ("", "refused") else ():
            program, *words = shlex.split(command)
            assert program == "fusion", command
            ended = fusion(tmp_path, *words)
            expected = 2 if block.mark == "refused" else 0
            assert ended.status == expected, f"{command}\n{ended.out}{ended.err}"


@pytest.mark.slow
@pytest.mark.parametrize("command", CHECKED)
def test_settings_of_a_long_command_are_right(
    command: str, program: Program, files: Path, checked_only: None, trained: Path
) -> None:
    assert_right(command, program, trained)
