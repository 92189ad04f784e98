"""Blocks of commands and code on the pages of docs/, with the marks in front of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^>]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """Fenced block: its page, its language, and its mark.

    Marks of commands: `pattern` (placeholders), `by hand: DATE, TIME` (too long for a test; was run on that day),
    `checked` (too long; its settings are checked), `refused` (wrong input), `tested: FILE` (by a test of its own).
    A block without a mark is run by a test.
    """

    page: str
    language: str
    mark: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Commands without the comments behind them."""
        lines = self.text.replace("\\\n", " ").splitlines() if self.language == "sh" else []
        return [command for line in lines if (command := re.split(r"\s+#\s", line)[0].strip())]


def pages() -> list[str]:
    """Return the pages, by their paths in docs/."""
    return sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def blocks(page: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    for match in _BLOCK.finditer((DOCS / page).read_text(encoding="utf-8")):
        yield Block(page, match["language"], match["mark"] or "", match["text"])
