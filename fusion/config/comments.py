"""Reader of YAML files that keeps their comments: the explanation of every setting, as its file states it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from fusion.errors import InputError
from fusion.files import bounds

_TRAILING = re.compile(r"\s*,?\s+#\s?(.*)$")
_COMMENT_LINE = re.compile(r"(\s*)#\s?(.*)$")


@dataclass(frozen=True)
class Setting:
    """Value of a setting as written in YAML, or, with `children`, a group of settings; and the comment on it."""

    text: str = ""
    children: dict[str, Setting] | None = None
    comment: str = ""

    def merged(self, later: Setting) -> Setting:
        """Return this setting with the values of a later file; a comment stays unless that file has its own."""
        comment = later.comment or self.comment
        if self.children is None or later.children is None:
            return replace(later, comment=comment)
        children = dict(self.children)
        for key, child in later.children.items():
            children[key] = children[key].merged(child) if key in children else child
        return replace(later, children=children, comment=comment)

    def at(self, path: str) -> Setting | None:
        """Return the setting at a dotted path below this one; None if there is none."""
        node: Setting | None = self
        for key in path.split(".") if path else ():
            node = (node.children or {}).get(key) if node is not None else None
        return node

    def leaves(self, path: str = "") -> Iterator[tuple[str, Setting]]:
        """Yield (dotted path, setting) of every value, empty groups included."""
        if not self.children:
            yield path, self
        for key, child in (self.children or {}).items():
            yield from child.leaves(f"{path}.{key}" if path else key)

    def below(self, place: str) -> Setting:
        """Return groups around this setting, so that it stands at the dotted path `place`."""
        node = self
        for key in reversed(place.split(".") if place else ()):
            node = Setting(children={key: node})
        return node


@dataclass(frozen=True)
class File:
    """Content of an option's file: its first comment, `# @package`, defaults list and settings.

    `groups` are the comments in the defaults list, by the name of the group.
    """

    about: str = ""
    package: str | None = None
    defaults: tuple[Any, ...] = ()
    settings: Setting = field(default_factory=lambda: Setting(children={}))
    groups: dict[str, str] = field(default_factory=dict)


@cache
def read(path: Path) -> File:
    """Read the file of an option. Raises InputError if it is not YAML or cannot be read."""
    import yaml

    try:
        text = bounds.checked_yaml(bounds.text(path))
        root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, OSError) as error:
        raise InputError(f"{path} is not YAML: {bounds.reason(error)}") from error
    lines = text.splitlines()
    head = _head(lines)
    package = re.match(r"#\s*@package\s+(\S+)", lines[0]) if lines else None
    about = " ".join(lines[number].lstrip("# ").strip() for number in range(1 if package else 0, head))
    if root is None or root.id != "mapping":
        return File(about, package and package[1])
    listed = next((value for key, value in root.value if key.value == "defaults"), None)
    settings = _setting(root, lines, head).children or {}
    settings.pop("defaults", None)
    return File(
        about,
        package and package[1],
        tuple(_plain(listed) or ()) if listed else (),
        Setting(children=settings),
        dict(_groups(listed, lines)) if listed else {},
    )


def _groups(listed: Any, lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (group, comment) of the entries of a defaults list that have a comment."""
    for entry in listed.value if listed.id == "sequence" else ():
        for key, value in entry.value if entry.id == "mapping" else ():
            comment = _comment(key, value, lines, len(lines))
            if comment and not key.value.startswith("override "):
                yield key.value.removeprefix("optional ").strip().strip("/").partition("@")[0], comment


def parse(value: str) -> Setting:
    """Return the setting of a value typed on the command line, which Hydra's grammar writes almost as YAML does."""
    import yaml

    try:
        root = yaml.compose(value, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return Setting(value)
    return Setting(value) if root is None else _setting(root, [], 0)


def _head(lines: list[str]) -> int:
    """Number of comment lines at the beginning of a file."""
    return next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))


def _setting(node: Any, lines: list[str], head: int, comment: str = "") -> Setting:
    if node.id != "mapping":
        return Setting(_written(node), comment=comment)
    children = {
        key.value: _setting(value, lines, head, _comment(key, value, lines, head) if lines else "")
        for key, value in node.value
    }
    return Setting(children=children, comment=comment)


def _comment(key: Any, value: Any, lines: list[str], head: int) -> str:
    """Return the comment lines above a key, and the comment behind its value with the lines that continue it."""
    block = value.id != "scalar" and not value.flow_style
    end = key.end_mark if block else value.end_mark
    rest = lines[end.line][end.column :] if end.line < len(lines) else ""
    trailing = _TRAILING.match(rest.removeprefix(":") if block else rest)
    parts = [*_above(key.start_mark, lines, head)]
    if trailing:
        column = len(lines[end.line]) - len(rest.lstrip(": ,"))
        parts += [trailing[1].strip(), *_continued(end.line, column, lines)]
    return " ".join(parts)


def _above(mark: Any, lines: list[str], head: int) -> list[str]:
    parts: list[str] = []
    for number in range(mark.line - 1, head - 1, -1):
        match = _COMMENT_LINE.match(lines[number])
        if match is None or len(match[1]) != mark.column:
            break
        parts.insert(0, match[2].strip())
    return parts


def _continued(line: int, column: int, lines: list[str]) -> Iterator[str]:
    for text in lines[line + 1 :]:
        match = _COMMENT_LINE.match(text)
        if match is None or len(match[1]) != column:
            return
        yield match[2].strip()


def _written(node: Any) -> str:
    """Write a node in one line, in flow style."""
    if node.id == "scalar":
        return "'" + node.value.replace("'", "''") + "'" if node.style in ("'", '"') else node.value
    if node.id == "sequence":
        return f"[{', '.join(map(_written, node.value))}]"
    return "{" + ", ".join(f"{key.value}: {_written(value)}" for key, value in node.value) + "}"


def _plain(node: Any) -> Any:
    """Return the value of a defaults list: texts, lists and groups of texts."""
    if node.id == "scalar":
        return None if node.value in ("null", "~", "") else node.value
    if node.id == "sequence":
        return [_plain(item) for item in node.value]
    return {key.value: _plain(value) for key, value in node.value}
