"""Classes and settings that an untrusted configuration may name, by their places in it.

The installed configuration trees are the list: `task._target_` may be a class that an option of the group `task` of the
core or of a registered plugin names, `method.model.envelope._target_` one that an option names there. Classes are
compared as text, so that nothing is imported before it is accepted.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fusion import plugins

_SPECIAL: Final = re.compile(r"_(target|args|partial|recursive|convert)_")
"""Special keys of Hydra's `instantiate`, also inside a dotted key such as `model._target_`."""
_FREE: Final = ("logger", "callbacks")
"""Groups whose nodes have names that the user chooses: `logger.anything`."""
_TRAINER: Final = re.compile(
    r"accelerator|accumulate_grad_batches|benchmark|detect_anomaly|deterministic|devices|gradient_clip_(algorithm|val)|"
    r"limit_train_batches|log_every_n_steps|max_(epochs|steps|time)|num_nodes|precision|strategy|sync_batchnorm|threads|"
    r"use_distributed_sampler"
)
"""Keywords of Lightning's Trainer that neither name a path to write to nor hold classes."""
_ASE_OPTIMISER: Final = re.compile(r"ase\.optimize(\.[a-z]\w*)*\.[A-Z]\w*")
_LOGGER_KEYS: Final = frozenset({"save_dir", "name", "version"})
_MORE: Final[dict[str, frozenset[Hashable]]] = {
    "task._target_": frozenset(
        {
            "fusion.tasks.compare.cost.MeasuredEnergy",
            "fusion.tasks.compare.cost.MeasuredTraining",
            "fusion.tasks.compare.cost.MeasuredExcited",
        }
    ),
    "logger.*._target_": frozenset(
        f"pytorch_lightning.loggers.{name}" for name in ("CSVLogger", "TensorBoardLogger", "WandbLogger")
    ),
}


@dataclass
class Places:
    """Allowed values of Hydra's special keys by place, keys of nodes with free names, and files of named data sets."""

    values: dict[str, set[Hashable]] = field(default_factory=dict)
    keys: dict[str, set[str]] = field(default_factory=dict)
    files: list[Any] = field(default_factory=list)

    def refusal(self, config: Mapping[str, Any]) -> str | None:
        """Return the first setting that is not allowed, as `place=value`; None if all are allowed."""
        for place, key, value in _settings(config):
            if not self._allowed(place, key, value):
                return f"{'.'.join((*place, key))}={_short(value)}"
        return None

    def task(self, target: Any) -> bool:
        """True if `target` is the class of a task."""
        return isinstance(target, str) and target in self.values.get("task._target_", ())

    def _allowed(self, place: tuple[str, ...], key: str, value: Any) -> bool:
        group = place[0] if place else ""
        if group == "task" and place[1:2] == ("optimiser",):
            return _is_optimiser(value) if key == "_target_" else not isinstance(value, (str, Mapping, Sequence))
        if _SPECIAL.search(key):
            return isinstance(value, Hashable) and value in self.values.get(_general((*place, key)), ())
        if (key in ("trainer", *_FREE) and not place) or (group in _FREE and len(place) == 1):
            return isinstance(value, Mapping) or (value is None and key != "trainer")
        if group == "trainer":
            return place[1:] == ("devices",) or bool(_TRAINER.fullmatch(key) and len(place) == 1)
        if group in _FREE:
            allowed = self.keys.get(f"{group}.*", set()) | (_LOGGER_KEYS if group == "logger" else set())
            plain = value is None or (key != "save_dir" and (not isinstance(value, str) or _is_plain(value)))
            return len(place) == 2 and key in allowed and plain
        if group == "data" and key == "files":
            return all(file in self.files for file in value or ())
        return True


def of(sources: Sequence[tuple[str, Path]]) -> Places:
    """Return the places of the configuration trees `sources`."""
    return _of(tuple(sources))


@functools.lru_cache(maxsize=4)
def _of(sources: tuple[tuple[str, Path], ...]) -> Places:
    from fusion.config.options import read_yaml

    places, aliases = Places({key: set(value) for key, value in _MORE.items()}), []
    nodes: list[tuple[str, str, dict[str, Any]]] = []
    packages: dict[str, set[str]] = {}
    for option, claims in plugins.options(list(sources)).items():
        group = option.rpartition("/")[0]
        if group.partition("/")[0] == "system":
            continue
        for _, file in claims:
            content = read_yaml(file)
            package = _package(file, group)
            for entry in content.pop("defaults", ()):
                for other, place in _repackaged(entry, package):
                    packages.setdefault(other, set()).add(place)
            nodes.append((group, package, content))
    for group, package, content in nodes:
        if group == "data":
            places.files += content.get("files") or ()
        for prefix in {package, *packages.get(group, ())}:
            for path, key, value in _settings(content, tuple(filter(None, prefix.split(".")))):
                if _SPECIAL.search(key):
                    places.values.setdefault(_general((*path, key)), set()).add(value)
                elif len(path) == 2 and path[0] in _FREE:
                    places.keys.setdefault(f"{path[0]}.*", set()).add(key)
                if isinstance(value, str) and re.fullmatch(r"\$\{[\w.]+\}", value):
                    aliases.append((".".join((*path, key)), value[2:-1]))
    for place, source in aliases:
        for key, values in list(places.values.items()):
            if key.startswith(f"{source}."):
                places.values.setdefault(place + key.removeprefix(source), set()).update(values)
    return places


def _package(file: Path, group: str) -> str:
    """Place of an option's contents: its `# @package`, or its group."""
    own = group.replace("/", ".")
    with file.open(encoding="utf-8") as lines:
        match = re.match(r"#\s*@package\s+(\S+)", lines.readline())
    return own if match is None else _absolute(match[1].replace("_group_", own), "")


def _repackaged(entry: Any, package: str) -> Iterator[tuple[str, str]]:
    """Yield (group, place) if an entry of a defaults list has its own place, `/training@method.training: x`."""
    for key in entry if isinstance(entry, dict) else ():
        group, at, place = str(key).removeprefix("override ").strip().partition("@")
        if at:
            yield group.strip("/"), _absolute(place, package)


def _absolute(place: str, package: str) -> str:
    if place.partition(".")[0] == "_global_":
        return place.partition(".")[2]
    return f"{package}.{place}".strip(".")


def _settings(node: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """Yield (place, key, value) of every setting at any depth; the keys of list items are their numbers."""
    waiting: list[tuple[tuple[str, ...], Any]] = [(place, node)]
    while waiting:
        place, node = waiting.pop()
        pairs: Iterable[tuple[Any, Any]] = node.items() if isinstance(node, Mapping) else enumerate(node)
        for key, value in pairs:
            yield place, str(key), value
            if isinstance(value, (Mapping, list, tuple)):
                waiting.append(((*place, str(key)), value))


def strings(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (dotted place, text) of every setting that is text."""
    for place, key, value in _settings(config):
        if isinstance(value, str):
            yield ".".join((*place, key)), value


def _general(path: tuple[str, ...]) -> str:
    """Return the dotted path, with `*` for a name that the user chose."""
    return ".".join((path[0], "*", *path[2:]) if path[0] in _FREE and len(path) > 1 else path)


def _is_optimiser(target: Any) -> bool:
    """True for the name of a class of ASE's optimisers; the task checks the class itself."""
    return isinstance(target, str) and _ASE_OPTIMISER.fullmatch(target) is not None


def _is_plain(text: str) -> bool:
    """True for text that names no other directory."""
    return not re.search(r"[/\\\x00]", text) and text not in (".", "..")


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
