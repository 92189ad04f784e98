"""Split of labelled structures into training, validation and test sets, recorded in split.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusion.config.checks import check_whole
from fusion.datasets.labelled import Labelled
from fusion.errors import InputError
from fusion.files import bounds
from fusion.files.atomic import write_atomically

FILENAME = "split.json"
_LONGEST = 1 << 28  # bytes: about 20 for each structure
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Ascending indices of the structures of each part; no structure, and no duplicate of one, is in two parts."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    settings: Mapping[str, Any]
    """Settings that produced the split."""

    def unseen(self, data: Labelled) -> np.ndarray:
        """Mask (T,) over `test`, True where no structure of the molecule is in the training set."""
        return ~np.isin(data.group[self.test], np.unique(data.group[self.train]))

    def write(self, directory: Path, data: Labelled) -> Path:
        """Write `split.json`: for each part the digests and names of its structures."""
        parts = {
            name: {
                "structures": len(indices),
                "ids": [f"{digest:016x}" for digest in np.asarray(data.ids)[indices].tolist()],
                "names": [data.name(int(index)) for index in indices],
            }
            for name, indices in self._parts()
        }
        path = directory / FILENAME
        write_atomically(
            path, json.dumps({"settings": dict(self.settings), "data": list(data.sources), **parts}) + "\n"
        )
        return path

    @classmethod
    def read(cls, path: Path, data: Labelled) -> Split:
        """Read the split of another run from `split.json`, or its directory, by the digests of the structures.

        Raises InputError for an unreadable file, or for structures that `data` lack.
        """
        path = path / FILENAME if path.is_dir() else path
        try:
            content = bounds.parsed_json(bounds.text(path, _LONGEST))
            ids = {name: np.array([int(text, 16) for text in content[name]["ids"]], dtype=np.uint64) for name in PARTS}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"data.split.file: '{path}' is not a {FILENAME} of a run") from error
        parts = {}
        for name, wanted in ids.items():
            parts[name] = np.flatnonzero(np.isin(data.ids, wanted))
            missing = len(wanted) - int(np.isin(wanted, data.ids).sum())
            if missing:
                raise InputError(
                    f"data.split.file: {missing} of the {len(wanted)} {name} structures in '{path}' are not in the data"
                )
        return cls(**parts, settings={**content.get("settings", {}), "file": str(path)})

    def _parts(self) -> list[tuple[str, np.ndarray]]:
        return [(name, getattr(self, name)) for name in PARTS]


def split(data: Labelled, config: Mapping[str, Any], seed: int) -> Split:
    """Split the data as `config["split"]` (conf/data/file.yaml) asks; `seed` is the default of its seed.

    The split does not depend on the order of the structures. Raises InputError for wrong settings, or if a requested
    part gets no structures.
    """
    node = dict(config.get("split") or {})
    if node.get("file") is not None:
        return Split.read(Path(str(node["file"])).expanduser(), data)
    settings = {
        "by": node.get("by", "structure"),
        "seed": seed if node.get("seed") is None else node["seed"],
        "unseen_molecules": node.get("unseen_molecules", 0),
        **{name: node.get(name, default) for name, default in (("train", None), ("validation", 0.1), ("test", 0.1))},
    }
    settings = {key: list(value) if _is_list(value) else value for key, value in settings.items()}
    _check(settings)
    units = _units(data, settings["by"])
    random = np.random.default_rng([int(settings["seed"]), 20])
    remaining = random.permutation(units.max(initial=-1) + 1)
    taken: dict[str, np.ndarray] = {}
    for name in ("test", "validation"):
        if _is_list(settings[name]):
            taken[name] = np.unique(units[_of_folds(data, settings[name], name)])
    unseen = _unseen(data, settings["unseen_molecules"], units, random)
    for name in PARTS:
        if _is_list(settings[name]) and name == "train":
            taken[name] = np.unique(units[_of_folds(data, settings[name], name)])
    used = np.concatenate([*taken.values(), unseen]) if taken or len(unseen) else np.empty(0, dtype=np.int64)
    remaining = remaining[~np.isin(remaining, used)]
    available = len(remaining)
    for name in ("test", "validation", "train"):
        if name not in taken:
            number = (
                len(remaining)
                if settings[name] is None
                else _count(settings[name], available, len(remaining), name, len(data))
            )
            taken[name], remaining = remaining[:number], remaining[number:]
    taken["test"] = np.concatenate([taken["test"], unseen])
    parts = {name: np.flatnonzero(np.isin(units, taken[name])) for name in PARTS}
    _refuse_empty(parts, settings, len(data))
    return Split(**parts, settings=settings)


def _check(settings: Mapping[str, Any]) -> None:
    if settings["by"] not in ("structure", "molecule"):
        raise InputError(f"data.split.by must be structure or molecule, not {settings['by']!r}")
    check_whole("data.split.seed", settings["seed"], 0)
    for name in (*PARTS, "unseen_molecules"):
        value = settings[name]
        if _is_list(value) and name != "unseen_molecules":
            continue
        if value is None and name == "train":
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0 or (value > 1 and value % 1):
            raise InputError(
                f"data.split.{name} must be a number of structures, a fraction below 1, or a list of the data's folds; "
                f"not {value!r}"
            )


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _units(data: Labelled, by: str) -> np.ndarray:
    """Unit (M,) int64 of each structure. A unit stays in one part: a structure with its duplicates, or a molecule."""
    if by == "molecule":
        names = np.unique(np.asarray(data.groups), return_inverse=True)[1]
        return np.unique(names[data.group], return_inverse=True)[1]
    return np.unique(data.ids, return_inverse=True)[1]


def _of_folds(data: Labelled, folds: Sequence[Any], name: str) -> np.ndarray:
    """Indices of the structures of the data's folds."""
    if data.fold is None:
        raise InputError(
            f"data.split.{name}={list(folds)} names folds, but the data state none: set data.fold=NAME, or "
            f"data.split.{name}=0.1"
        )
    existing = np.unique(data.fold[data.fold >= 0]).tolist()
    for fold in folds:
        if fold not in existing:
            raise InputError(f"data.split.{name}: no fold {fold}; the data have {', '.join(map(str, existing))}")
    return np.flatnonzero(np.isin(data.fold, list(folds)))


def _unseen(data: Labelled, requested: int | float, units: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Units of the molecules that go to the test set alone."""
    names = np.array(sorted({data.groups[group] for group in np.unique(data.group).tolist()}))
    number = round(requested * len(names)) if requested < 1 else int(requested)
    if not number:
        return np.empty(0, dtype=np.int64)
    if number >= len(names):
        raise InputError(f"data.split.unseen_molecules={requested}: there are only {len(names)} molecules")
    chosen = set(random.permutation(names)[:number].tolist())
    places = [index for index, group in enumerate(data.groups) if group in chosen]
    return np.unique(units[np.isin(data.group, places)])


def _count(requested: int | float, total: int, remaining: int, name: str, structures: int) -> int:
    """Number of units of a part: a fraction of the total, or a number."""
    number = (
        round(requested * total)
        if 0 < requested < 1 or (isinstance(requested, float) and requested == 1)
        else int(requested)
    )
    if number > remaining:
        raise InputError(f"data.split.{name}={requested}: only {remaining} of {structures} structures remain for it")
    return number


def _refuse_empty(parts: Mapping[str, np.ndarray], settings: Mapping[str, Any], structures: int) -> None:
    for name, indices in parts.items():
        requested = settings[name]
        if not len(indices) and (requested is None or _is_list(requested) or requested > 0):
            others = ", ".join(f"{len(other)} for {key}" for key, other in parts.items() if key != name)
            raise InputError(
                f"data.split leaves nothing for {name} of {structures} structures ({others}); set "
                f"data.split.{name}=0 if that is intended"
                if name != "train"
                else f"data.split leaves nothing for {name} of {structures} structures ({others})"
            )
