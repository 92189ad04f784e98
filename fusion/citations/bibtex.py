"""BibTeX: entries with their fields, read from files and written in one layout."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fusion.errors import InputError
from fusion.files import bounds

_HEAD = re.compile(r"@\s*([A-Za-z]+)\s*\{\s*([^\s,{}]+)\s*,")
_FIELD = re.compile(r"\s*([A-Za-z][\w-]*)\s*=\s*")
_BARE = re.compile(r"[0-9]+")
_END = re.compile(r"[\s,]*\}")
_SEPARATOR = re.compile(r"\s*,?")
_COMBINING = {"'": "\u0301", "`": "\u0300", '"': "\u0308", "^": "\u0302", "~": "\u0303", "v": "\u030c", "c": "\u0327"}
_ACCENT = re.compile(r"\\(['`\"^~]|[vc](?=\{))\{?([A-Za-z])\}?")
_LETTERS = {r"{\o}": "ø", r"{\l}": "ł", r"{\ss}": "ß", r"{\O}": "Ø"}


@dataclass(frozen=True)
class Entry:
    """Reference: its kind (`article`, `misc`, ...), its key, and its fields in the order of the file."""

    kind: str
    key: str
    fields: Mapping[str, str]

    def text(self) -> str:
        """Return the entry as BibTeX, with aligned fields."""
        width = max((len(name) for name in self.fields), default=0)
        lines = [f"  {name:<{width}} = {{{value}}}," for name, value in self.fields.items()]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"]) + "\n"

    def short(self) -> str:
        """Return authors, journal, year and DOI in one line."""
        families = [plain(name).partition(",")[0] for name in self.fields.get("author", "").split(" and ") if name]
        authors = ", ".join(families[:2]) if len(families) <= 2 else f"{families[0]} et al."
        where = " ".join(plain(self.fields[key]) for key in ("journal", "volume", "pages") if self.fields.get(key))
        preprint = f"arXiv:{self.fields['eprint']}" if "eprint" in self.fields else ""
        address = f"doi:{self.fields['doi']}" if "doi" in self.fields else preprint
        return ", ".join(filter(None, (authors, where, self.fields.get("year"), address)))


def read(path: Path) -> list[Entry]:
    """Read the entries of a file. Raises InputError with the key of an entry that is not BibTeX."""
    try:
        return list(parse(bounds.text(path)))
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is not BibTeX: {bounds.reason(error)}") from error


def parse(text: str) -> Iterator[Entry]:
    """Yield the entries of a text; what is between them is a comment. Raises ValueError."""
    place = 0
    while found := _HEAD.search(text, place):
        kind, key = found[1].lower(), found[2]
        fields, place = _fields(text, found.end(), key)
        yield Entry(kind, key, fields)


def _fields(text: str, place: int, key: str) -> tuple[dict[str, str], int]:
    """Fields of the entry whose first field is at `place`, and the place after its end."""
    fields: dict[str, str] = {}
    while not (end := _END.match(text, place)):
        name = _FIELD.match(text, place)
        if name is None:
            raise ValueError(f"entry {key} has no field or closing brace after {text[max(0, place - 20) : place]!r}")
        value, place = _value(text, name.end(), key)
        fields[name[1].lower()] = " ".join(value.split())
        separator = _SEPARATOR.match(text, place)
        assert separator is not None  # it may be empty
        place = separator.end()
    return fields, end.end()


def _value(text: str, place: int, key: str) -> tuple[str, int]:
    """Value in braces, in quotes or of digits at `place`, and the place after it."""
    if bare := _BARE.match(text, place):
        return bare[0], bare.end()
    if text[place : place + 1] not in ("{", '"'):
        raise ValueError(f"entry {key}: write values in braces, {{...}}")
    quoted, depth = text[place] == '"', 0
    for index in range(place, len(text)):
        letter = text[index]
        if letter in "{}" and text[index - 1] != "\\":
            depth += 1 if letter == "{" else -1
        closed = letter == '"' and index > place if quoted else letter == "}"
        if depth == 0 and closed:
            return text[place + 1 : index], index + 1
    raise ValueError(f"entry {key}: a value has no end")


def plain(text: str) -> str:
    """Return the text of a field to be read: without braces, with accents as letters."""
    for written, letter in _LETTERS.items():
        text = text.replace(written, letter)
    text = _ACCENT.sub(lambda found: unicodedata.normalize("NFC", found[2] + _COMBINING[found[1]]), text)
    return text.replace("---", "—").replace("--", "–").replace("{", "").replace("}", "").replace("$^2$", "²")
