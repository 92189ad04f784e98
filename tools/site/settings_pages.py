"""Reference of the configuration: a page for every group of conf/, from the YAML files and their comments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from fusion.config import comments

ROOT = Path(__file__).parents[2]
_PLACEHOLDER = re.compile(r"^<!-- settings: (\S+) -->$", re.MULTILINE)
_TITLES = {
    "system": "Systems",
    "method": "Methods",
    "task": "Tasks",
    "kind": "Kinds of methods",
    "data": "Data sets",
}
_LONGEST = 60  # characters of a value in a table


def trees() -> tuple[Path, ...]:
    """Configuration folders of the core and of the bundled plugins."""
    return (ROOT / "conf", *sorted((ROOT / "plugins").glob("*/conf")))


def options() -> dict[str, dict[str, Path]]:
    """Files of all options, by group and name; presets of a method are options of their group."""
    found: dict[str, dict[str, Path]] = {}
    for tree in trees():
        for path in sorted(tree.rglob("*.yaml")):
            group, _, name = path.relative_to(tree).with_suffix("").as_posix().partition("/")
            found.setdefault(group, {})[name] = path
    return found


def pages() -> Iterator[tuple[str, str]]:
    """Place and text of every generated page."""
    groups = options()
    groups.pop("config")
    lines = ["# Configuration", "", "Groups of settings, and the names that each can have.", ""]
    for group, files in sorted(groups.items()):
        title = _TITLES.get(group, group.capitalize())
        lines.append(f"- [{title}]({group}.md): {', '.join(f'`{name}`' for name in files)}")
        yield f"reference/configuration/{group}.md", _page(group, title, files)
    main = comments.read(ROOT / "conf" / "config.yaml")
    lines += ["", "## Settings of every run", "", *_table(main, "")]
    yield "reference/configuration/index.md", "\n".join(lines) + "\n"


def filled(markdown: str) -> str:
    """Replace `<!-- settings: GROUP/NAME -->` by the table of that option's settings."""
    return _PLACEHOLDER.sub(lambda match: "\n".join(_of(match[1])), markdown)


def _of(option: str) -> list[str]:
    group, _, name = option.partition("/")
    file = comments.read(options()[group][name])
    return _table(file, file.package if file.package not in (None, "_global_") else "" if file.package else group)


def _page(group: str, title: str, files: dict[str, Path]) -> str:
    lines = [f"# {title}", "", f"`{'+' if group == 'method' else ''}{group}=NAME`", ""]
    for name, path in files.items():
        file = comments.read(path)
        lines += [f"## {name}", ""]
        if group == "system" and file.settings.at("symbols") is not None:
            lines += [*_about(file), *_system(file), ""]
        else:
            lines += [*_about(file), *_of(f"{group}/{name}"), ""]
    return "\n".join(lines)


def _about(file: comments.File) -> list[str]:
    return [_prose(file.about), ""] if file.about else []


def _system(file: comments.File) -> list[str]:
    """Reference energy of a built-in system and its source; no table of coordinates."""
    rows = [(path, setting) for path, setting in file.settings.leaves() if path.partition(".")[0] == "reference"]
    return [f"- `{path}`: {setting.text} {_prose(setting.comment)}".rstrip() for path, setting in rows]


def _table(file: comments.File, place: str) -> list[str]:
    rows = []
    for path, setting in file.settings.leaves(place):
        if path.endswith("_target_"):
            continue
        text = setting.text if len(setting.text) <= _LONGEST else setting.text[: _LONGEST - 1] + "…"
        value = "{}" if setting.children is not None else text
        rows.append(f"| `{path}` | {_code(value)} | {_prose(setting.comment)} |")
    return ["| setting | default | meaning |", "|---|---|---|", *rows] if rows else ["No settings of its own."]


def _code(text: str) -> str:
    return f"`{text}`".replace("|", r"\|") if text else ""


def _prose(text: str) -> str:
    """Comment as Markdown: signs that would be read as markup are escaped."""
    return re.sub(r"([\\`*_<>|\[\]$])", r"\\\1", text)
