"""Settings of a run with their comments, composed from the YAML files without Hydra, whose import takes too long.

The rules are Hydra's, as far as the trees use them: defaults lists with `_self_`, `override` and packages, of which the
outermost override wins, and the words of the command line before all of them. A test compares the two.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fusion import plugins
from fusion.config import comments
from fusion.config.comments import Setting
from fusion.config.options import core_directory, sources, suggestion
from fusion.errors import InputError

_UNDESCRIBED = ("hydra",)
"""Groups and settings of the configuration that belong to Hydra itself."""
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


@dataclass(frozen=True)
class Choice:
    """Chosen option of a group, the place of its settings, and the comment at the beginning of its file."""

    group: str
    option: str
    package: str
    about: str


@dataclass(frozen=True)
class Described:
    """All settings, with comments, and the chosen options by group."""

    settings: Setting
    choices: dict[str, Choice]

    def value(self, setting: Setting) -> str:
        """Return the value of a setting as text; a reference, ${weights}, is replaced by the value it refers to."""
        text = setting.text if setting.children is None else "{}"
        for _ in range(5):
            reference = _REFERENCE.fullmatch(text)
            target = self.settings.at(reference[1]) if reference else None
            if target is None or target.children is not None:
                break
            text = target.text
        return text


@dataclass
class _Tree:
    """State of one composition: files by option, and the choices so far."""

    files: dict[str, Path]
    chosen: dict[str, str | None]
    choices: dict[str, Choice] = field(default_factory=dict)

    def expand(self, option: str, package: str | None, outer: str = "") -> list[Setting]:
        """Return the settings of an option and of its defaults list, to be merged in this order."""
        file = comments.read(self.files[option])
        group = option.rpartition("/")[0]
        place = package if package is not None else _package(file.package, group.replace("/", "."), outer)
        entries = [*file.defaults, *(() if "_self_" in file.defaults else ("_self_",))]
        for key, value in _pairs(entries):
            if key.startswith("override "):
                self.chosen.setdefault(key.removeprefix("override ").strip().strip("/"), value)
        if group:
            name, _, chosen = option.partition("/")
            self.choices.setdefault(name, Choice(name, chosen, place, file.about))
        parts: list[list[Setting]] = []
        for entry in reversed(entries):  # as Hydra does it: later entries override choices of earlier ones
            parts.insert(0, [file.settings.below(place)] if entry == "_self_" else self._entry(entry, group, place))
        return [setting for part in parts for setting in part]

    def _entry(self, entry: Any, group: str, place: str) -> list[Setting]:
        if isinstance(entry, str):
            return self.expand(
                entry.strip("/") if entry.startswith("/") else f"{group}/{entry}".strip("/"), None, place
            )
        parts: list[Setting] = []
        for key, default in _pairs([entry]):
            if key.startswith("override "):
                continue
            name, _, at = key.removeprefix("optional ").strip().partition("@")
            name = name.strip("/") if name.startswith("/") or not group else f"{group}/{name}"
            option = self.chosen.get(name, default)
            for each in _listed(option):
                if name.partition("/")[0] not in _UNDESCRIBED:
                    parts += self.expand(self._known(name, each), _absolute(at, place) if at else None, place)
        return parts

    def _known(self, group: str, name: str) -> str:
        if f"{group}/{name}" not in self.files:
            raise UnknownOption(group, name)
        return f"{group}/{name}"


class UnusedGroup(InputError):
    """A group is chosen that neither the method nor the task has."""

    def __init__(self, message: str, group: str) -> None:
        super().__init__(message)
        self.group = group


class UnknownOption(InputError):
    """A group has no option of this name."""

    def __init__(self, group: str, name: str) -> None:
        super().__init__(f"no {group} '{name}'")
        self.group, self.name = group, name


def files() -> dict[str, Path]:
    """Return the file of every option of all trees, `task/relax` and presets `method/ferminet/paper` included."""
    return _files(tuple(sources()))


@functools.lru_cache(maxsize=4)
def _files(trees: tuple[tuple[str, Path], ...]) -> dict[str, Path]:
    return {option: claims[0][1] for option, claims in plugins.options(list(trees)).items()}


def compose(words: Sequence[str]) -> Described:
    """Compose the settings that the words of a command line choose and set, `+method=ani task=relax task.fmax=1e-3`.

    Raises UnknownOption, and InputError for a setting that does not exist.
    """
    known = files()
    groups = {option.rpartition("/")[0] for option in known if "/" in option}
    pairs = [(word.partition("=")[0], word.partition("=")[2]) for word in words if "=" in word]
    chosen = {key.lstrip("+"): _unquoted(value) for key, value in pairs if key.lstrip("+") in groups}
    values = [(key, value) for key, value in pairs if key.lstrip("+") not in groups]
    main = comments.read(core_directory() / "config.yaml")
    listed = {key for key, _ in _pairs(main.defaults)}
    added = [{f"/{key.lstrip('+')}": None} for key, _ in pairs if key.startswith("+") and key.lstrip("+") in groups]
    added += [{"/method": None}] if "method" in chosen and "+method" not in dict(pairs) else []
    tree = _Tree(known, dict(chosen))
    parts: list[list[Setting]] = []
    for entry in reversed([*main.defaults, *(entry for entry in added if next(iter(entry))[1:] not in listed)]):
        part = [main.settings] if entry == "_self_" else tree._entry(entry, "", "")
        parts.insert(0, part)
    settings = Setting(children={})
    for part in parts:
        for each in part:
            settings = settings.merged(each)
    for group, name in chosen.items():
        if group not in tree.choices and name != "null":
            raise UnusedGroup(f"{group}= has no meaning here", group)
    for key, value in values:
        settings = _with_value(settings, key, value)
    if settings.children is not None:
        settings = replace(settings, children={k: v for k, v in settings.children.items() if k not in _UNDESCRIBED})
    return Described(settings, tree.choices)


def option(group: str, name: str) -> Described:
    """Return the settings of one option alone, at their place in those of a run."""
    tree = _Tree(files(), {})
    place = next((at for at in map(_repackaged(group), tree.files.values()) if at), None)
    settings = Setting(children={})
    for each in tree.expand(tree._known(group, name), place):
        settings = settings.merged(each)
    return Described(settings, tree.choices)


def _repackaged(group: str) -> Callable[[Path], str | None]:
    """Return a function from a file to the place that its defaults list gives to the group."""

    def place(path: Path) -> str | None:
        for key, _ in _pairs(comments.read(path).defaults) if path.parent.name in ("kind", "method", "task") else ():
            name, at, where = key.removeprefix("override ").strip().partition("@")
            if at and name.strip("/") == group:
                return _absolute(where, "")
        return None

    return place


def _with_value(settings: Setting, key: str, value: str) -> Setting:
    """Set a value. Raises InputError for an unknown key that is not added, `+key=value`."""
    place = key.lstrip("+")
    if place.startswith("hydra."):
        return settings
    if settings.at(place) is None and not key.startswith("+"):
        names = [path for path, _ in settings.leaves()]
        parent = place.rpartition(".")[0]
        siblings = ", ".join(name for name in names if name.rpartition(".")[0] == parent)
        guess = suggestion(place, names) or (f"  Settings: {siblings}" if siblings else "")
        raise InputError(f"no setting '{place}'.{guess}")
    return settings.merged(comments.parse(value).below(place))


def _pairs(entries: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for entry in entries:
        if isinstance(entry, dict):
            yield from ((str(key), value) for key, value in entry.items())


def _listed(option: str | None) -> list[str]:
    """Names of one option, of none (null) or of several, [density, quadrupole]."""
    if option in (None, "", "null"):
        return []
    text = str(option)
    return [part.strip() for part in text[1:-1].split(",")] if text[:1] == "[" and text[-1:] == "]" else [text]


def _package(header: str | None, group: str, outer: str) -> str:
    return group if header is None else _absolute(header.replace("_group_", group), "")


def _absolute(place: str, package: str) -> str:
    if place.partition(".")[0] == "_global_":
        return place.partition(".")[2]
    return f"{package}.{place}".strip(".")


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value
