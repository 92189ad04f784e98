"""Commands and Python code in README.md."""

from __future__ import annotations

import re
from pathlib import Path

_README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
_BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", _README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    re.split(r"\s{2,}|\s#", line)[0]
    for language, block in _BLOCKS
    if not language
    for line in block.splitlines()
    if line.startswith(("fusion ", "./tools/run "))
]
PYTHON = [block for language, block in _BLOCKS if language == "python"]
