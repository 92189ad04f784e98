"""Runs in any folders, finished or not, and the settings in which they differ.

Nothing in the folders is executed: results and settings are read as plain data.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion.config.moved_names import current
from fusion.config.options import read_yaml
from fusion.errors import InputError
from fusion.runs.directory import PREVIOUS, holder
from fusion.runs.layout import CONFIG, RESULT
from fusion.runs.results import read_result

UNFINISHED, RUNNING, UNREADABLE = "unfinished", "running", "unreadable"
"""Statuses of a run without a result, beside those of `Result.status`."""

_IGNORED = ("callbacks", "ckpt", "hydra", "logger", "seed", "units", "weights")
"""Settings, with everything below them, that have a column of their own or change no number."""
_REPEATED = frozenset(
    {"method.name", "method.seed", "method.weights", "system.digest", "system.name", "system.positions", "task.name"}
)
"""Settings that follow from others, or have a column of their own."""
_LEVEL = frozenset({"method.basis", "method.xc"})
"""Settings that belong to the level of theory of any method."""


@dataclass(frozen=True)
class CollectedRun:
    """A run: its directory, its status, `result.json` (empty without a result), and its settings by dotted key."""

    directory: Path
    status: str
    document: Mapping[str, Any]
    settings: Mapping[str, Any]


def collect(places: Iterable[Path]) -> list[CollectedRun]:
    """Read the runs in `places`, which are directories of runs or sweeps, or any folders that contain some.

    Folders inside a run, such as the parts of a comparison, are not searched. Raises InputError for a place that is not
    a directory.
    """
    runs: dict[Path, CollectedRun] = {}
    for place in places:
        if not place.is_dir():
            raise InputError(f"{place} is not a directory; name directories of runs, or folders that contain some")
        for run in _search(place):
            runs.setdefault(run.directory.resolve(), run)
    return list(runs.values())


def collect_some(places: Sequence[Path]) -> list[CollectedRun]:
    """Read the runs in `places` as `collect` does. Raises InputError if there are none."""
    runs = collect(places)
    if not runs:
        raise InputError(f"no runs in {', '.join(map(str, places))}: no folder there has a result or settings of a run")
    return runs


def inner_runs(run: CollectedRun) -> list[CollectedRun]:
    """Read the runs inside the directory of a run, which are its parts: the methods of a comparison, for example."""
    folders = sorted(folder for folder in run.directory.iterdir() if folder.is_dir() and not folder.is_symlink())
    searched = [folder for folder in folders if not folder.name.startswith((".", PREVIOUS))]
    inner = [part for folder in searched for part in _search(folder)]
    return [each for part in inner for each in (part, *inner_runs(part))]


def differing_settings(runs: Sequence[CollectedRun]) -> list[str]:
    """Return the keys of the settings that differ between runs of the same method and task.

    Settings of the system must differ for the same system as well. Basis and functional are compared between all runs.
    A setting that repeats another one in every run is left out.
    """
    chosen: list[str] = []
    columns: set[tuple[str | None, ...]] = set()
    for key in dict.fromkeys(key for run in runs for key in run.settings):
        column = _column(runs, key)
        if _is_shown(key) and column not in columns and _differs(runs, key, column):
            chosen.append(key)
            columns.add(column)
    return chosen


def _search(place: Path) -> Iterator[CollectedRun]:
    """Yield the runs at `place` and below it, in the order of their names, in which 10 comes after 9."""
    for folder, folders, files in os.walk(place):
        run = _read(Path(folder)) if {CONFIG, RESULT} & set(files) else None
        folders[:] = sorted((n for n in folders if run is None and n != PREVIOUS and n[0] != "."), key=_natural)
        if run is not None:
            yield run


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _read(directory: Path) -> CollectedRun | None:
    """Read the run in `directory`; None for a folder that only has files of these names."""
    status = UNREADABLE
    try:
        document = read_result(directory)
        if document is not None and "schema" in document:
            settings = current(document.get("settings") or {})
            return CollectedRun(directory, document["status"], document, leaves(settings))
        status = UNFINISHED if holder(directory) is None else RUNNING
    except InputError:
        pass
    configuration = _configuration(directory)  # slower to read than a result
    return None if configuration is None else CollectedRun(directory, status, {}, leaves(configuration))


def _configuration(directory: Path) -> dict[str, Any] | None:
    """Return the settings of a run without a usable result; None if `config.yaml` holds no settings of a run."""
    import yaml

    if not (directory / CONFIG).is_file():
        return None
    try:
        settings = read_yaml(directory / CONFIG)
    except (yaml.YAMLError, ValueError, OSError):
        return None
    return current(settings) if all(isinstance(settings.get(key), dict) for key in ("system", "task")) else None


def leaves(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten settings to values by dotted key; lists are values."""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        values |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return values


def _column(runs: Sequence[CollectedRun], key: str) -> tuple[str | None, ...]:
    """Values of a setting in all runs as text; None for runs without it."""
    return tuple(json.dumps(run.settings[key], default=str) if key in run.settings else None for run in runs)


def _is_shown(key: str) -> bool:
    described = key.endswith("_target_") or key.startswith("method.about.")
    return key.partition(".")[0] not in _IGNORED and key not in _REPEATED and not described


def _differs(runs: Sequence[CollectedRun], key: str, column: Sequence[str | None]) -> bool:
    """True if the setting has several values among runs of the same choice of method, task and, for its own, system."""
    owners = ["method.name", "task.name", *(["system.name"] if key.startswith("system.") else [])]
    values: dict[tuple[Any, ...], set[str]] = {}
    for run, value in zip(runs, column, strict=True):
        if value is not None:
            group = () if key in _LEVEL else tuple(str(run.settings.get(owner)) for owner in owners)
            values.setdefault(group, set()).add(value)
    return any(len(each) > 1 for each in values.values())
