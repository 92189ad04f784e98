"""HTML elements. Every text is escaped: names, remarks and settings come from files and may hold anything."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any

_VOID = frozenset({"img", "input", "meta"})


class Html(str):
    """Text that is HTML already; any other text is escaped when it becomes part of an element."""


def element(name: str, /, *children: str | Iterable[str], **attributes: str | int | bool | None) -> Html:
    """Return an element. `class_` and `for_` stand for class and for; None and False leave an attribute out."""
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        words.append(key if value is True else f'{key}="{escape(str(value))}"')
    start = f"<{' '.join(words)}>"
    return Html(start if name in _VOID else f"{start}{joined(children)}</{name}>")


def joined(parts: Iterable[str | Iterable[str]]) -> Html:
    """Join texts, which are escaped, and elements."""
    return Html("".join(_one(part) if isinstance(part, str) else joined(part) for part in parts))


def _one(part: str) -> str:
    return part if isinstance(part, Html) else escape(printable(part))


def printable(text: str) -> str:
    """Return text without control characters, which HTML does not allow."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "�" for letter in text)


def data(name: str, value: Any) -> Html:
    """Return a block of data for the scripts of the page; nothing in it can end the block."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c").replace("&", "\\u0026")
    return Html(f'<script type="application/json" id="{escape(name)}">{text}</script>\n')
