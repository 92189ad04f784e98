"""Loading of labelled structures from the `data` settings: download, read, convert if large, and check.

A source of more than `STREAM_FROM` bytes is converted once to flat files in the cache and memory-mapped from there, so
that neither the source nor the arrays need to fit into memory. The name of the files is a digest of the source and of
the settings that matter. Smaller sources are read again each time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fusion.chemistry.energy_zeros import ATOMISATION, CORRECTION, DIFFERENCE, TOTAL
from fusion.config.checks import check_whole
from fusion.datasets import ase_files, consistency, hdf5, npz, remote
from fusion.datasets.baseline import subtracted
from fusion.datasets.blocks import Block, Broken, Converter, Excluded
from fusion.datasets.columns import Columns, mapped
from fusion.datasets.inspection import inspect
from fusion.datasets.labelled import UNKNOWN_SPIN, Labelled
from fusion.datasets.mixture import mixed
from fusion.datasets.report import Report
from fusion.datasets.settings import CONVENTIONS, Settings, Units
from fusion.errors import InputError

STREAM_FROM = 64_000_000
"""Size of a source, in bytes, from which on it is converted to files."""

_VERSION = 2  # of the files in the cache
_SEED_OF_LIMIT = 0


def load(config: Mapping[str, Any], start_dir: Path) -> Labelled:
    """Load the labelled structures of a `data` node (conf/data/file.yaml), with a `report` for the user.

    Raises InputError for a missing file, one without usable structures, or units or signs that the data contradict.
    """
    if not isinstance(config, Mapping):
        raise InputError(f"data={config} names no data: write data=NAME, data=FILE or data=[NAME, FILE, ...]")
    if config.get("entries") is not None:
        parts = [load(entry, start_dir) for entry in config["entries"]]
        return limited(mixed(parts), config.get("limit"))
    settings = Settings.read(config, _paths(config, start_dir))
    reader = _reader(settings.paths[0])
    units = settings.units(CONVENTIONS[_FORMATS[reader]])
    level = _stated(settings, reader, "level_of_theory")
    if settings.energy_zero is None:
        zero = _stated(settings, reader, "energy_zero") or TOTAL
        settings = replace(settings, energy_zero=_ZEROS.get(zero, TOTAL))
    data = _labelled(settings, units)
    if level is not None:
        data.report.level_of_theory = level
        data.report.checks.append(f"the file states the level of theory {level}")
    if not len(data):
        _refuse_empty(settings, data)
    _refuse_unlabelled(settings, data, reader)
    if settings.check:
        consistency.check(data, settings, units)
    inspect(data)
    data = limited(data, config.get("limit"))
    return subtracted(data, config.get("baseline"))


def limited(data: Labelled, limit: Any) -> Labelled:
    """Select at most `limit` structures, always the same, in their order. Raises InputError for a wrong limit."""
    if limit is None:
        return data
    check_whole("data.limit", limit)
    if limit >= len(data):
        return data
    order = np.argsort(data.ids, kind="stable")
    chosen = np.random.default_rng(_SEED_OF_LIMIT).permutation(order)[:limit]
    return data.select(np.sort(chosen))


_ZEROS = {ATOMISATION: ATOMISATION, CORRECTION: DIFFERENCE}
"""Zero of a method's energies, as its labels state it -> zero of the data, unless it is that of total energies."""

_FORMATS: dict[ModuleType, str] = {ase_files: "ase", hdf5: "ani", npz: "npz"}


def _reader(path: Path) -> Any:
    suffix = path.suffix.lower()
    return hdf5 if suffix in (".h5", ".hdf5", ".hdf") else npz if suffix == ".npz" else ase_files


def _stated(settings: Settings, reader: Any, key: str) -> str | None:
    """Return the entry `key` of the first comment lines of structure files, as fusion's labels have; None without.

    Raises InputError for files with different entries: their energies do not belong together.
    """
    try:
        entries = [ase_files.stated(path, key) for path in settings.paths] if reader is ase_files else []
    except Exception:  # a file that cannot be read is refused where its structures are read
        return None
    different = list(dict.fromkeys(entry for each in entries for entry in each))
    if len(different) > 1 and settings.check:
        raise InputError(
            f"data: the files state more than one {key.replace('_', ' ')}: {' and '.join(different[:2])}; "
            "data=[FILE, FILE] gives each its own self energies, data.check=false mixes them"
        )
    return different[0] if different else None


def _paths(config: Mapping[str, Any], start_dir: Path) -> tuple[Path, ...]:
    """Paths of the files; downloads missing files of a named data set. Raises InputError."""
    path_setting = config.get("path")
    if path_setting is None:
        if config.get("files"):
            return remote.fetched(str(config.get("name")), config["files"])
        raise InputError("data.path=FILE is missing: the file, or folder, with the labelled structures")
    paths = [path_setting] if isinstance(path_setting, (str, Path)) else list(path_setting)
    full_paths = tuple(start_dir / Path(str(path)).expanduser() for path in paths)
    for path in full_paths:
        if not path.exists():
            raise InputError(f"data: no file '{path}'")
    return full_paths


def _labelled(settings: Settings, units: Units) -> Labelled:
    if sum(map(_size, settings.paths)) < STREAM_FROM:
        columns, extra = _converted(settings, units, None)
    else:
        columns, extra = _in_cache(settings, units)
    report = Report(**{**extra["report"], "left_out": [tuple(pair) for pair in extra["report"]["left_out"]]})
    return _assembled(settings, columns, extra["groups"], report)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size


def _in_cache(settings: Settings, units: Units) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Map the columns from the cache, after converting the source once; one process converts, others wait."""
    from fusion.zoo import cache

    key = _key(settings, units)
    place = cache.directory() / "data" / key
    content = mapped(place)
    if content is None:
        with cache.locked(f"data-{key[:16]}"):
            content = mapped(place)
            if content is None:
                part = cache.create(place.with_name(f".{key}.part"))
                try:
                    _converted(settings, units, part)
                    os.replace(part, place)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
                content = mapped(place)
    assert content is not None
    return content


def _key(settings: Settings, units: Units) -> str:
    """Digest of the contents of the source and of the settings it is read with."""
    digest = hashlib.sha256(f"{_VERSION} {asdict(replace(settings, name='', paths=(), check=True))} {units}".encode())
    for path in settings.paths:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def _converted(
    settings: Settings, units: Units, directory: Path | None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from fusion.console.phases import phase

    report, columns = Report(energy_unit=units.name), Columns(directory)
    converter = Converter(units, report)
    shown = phase("reading") if directory is not None else None
    bar = shown.__enter__() if shown is not None else None
    try:
        for path in settings.paths:
            for block in _blocks(_reader(path), path, settings, report):
                for rows in converter.columns(block):
                    columns.add(rows)
                if bar is not None:
                    bar(len(columns), settings.name)
    finally:
        if shown is not None:
            shown.__exit__(None, None, None)
    extra = {"groups": list(converter.groups), "report": asdict(report)}
    return columns.finish(extra), extra


def _blocks(reader: Any, path: Path, settings: Settings, report: Report) -> Iterator[Block]:
    """Yield the blocks of a file; count broken and excluded records in the report."""
    for record in reader.read(path, settings):
        if isinstance(record, Broken):
            report.read += record.number
            report.left_out += [(record.name, record.reason)] * record.number
        elif isinstance(record, Excluded):
            report.excluded[record.what] = report.excluded.get(record.what, 0) + record.number
        else:
            yield record


def _assembled(settings: Settings, columns: dict[str, np.ndarray], groups: list[str], report: Report) -> Labelled:
    if not columns:
        columns = _no_columns()
    number = len(columns["sizes"])

    def label(name: str) -> np.ndarray | None:
        """Return the column, or None if no structure has the label."""
        return columns[name] if any(np.isfinite(part).any() for part in _parts(columns[name])) else None

    periodic = bool(columns["pbc"].any())
    data = Labelled(
        numbers=columns["numbers"],
        positions=columns["positions"],
        offsets=np.concatenate([[0], np.cumsum(columns["sizes"])]).astype(np.int64),
        energy=columns["energy"],
        forces=label("forces"),
        stress=label("stress") if periodic else None,
        dipole=label("dipole"),
        cell=columns["cell"] if periodic else None,
        pbc=columns["pbc"] if periodic else None,
        charge=columns["charge"],
        spin=columns["spin"],
        group=columns["group"],
        groups=tuple(groups),
        source=np.zeros(number, dtype=np.int16),
        sources=(settings.name,),
        ids=columns["ids"],
        place=columns["place"],
        fold=columns["fold"] if bool((columns["fold"] >= 0).any()) else None,
        energy_zero=DIFFERENCE if settings.subtract is not None else settings.energy_zero or TOTAL,
        report=report,
    )
    without = int(np.isnan(data.energy).sum())
    if without and without < number:
        report.without["an energy"] = without
    if data.forces is not None:
        missing = np.isnan(data.forces[data.offsets[:-1], 0]).sum()
        if missing:
            report.without["forces"] = int(missing)
    return data


def _parts(array: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(array), 1_000_000):
        yield array[start : start + 1_000_000]


def _no_columns() -> dict[str, np.ndarray]:
    atoms, empty = np.zeros((0, 3)), np.zeros(0)
    columns: dict[str, np.ndarray] = {
        "numbers": empty.astype(np.uint8),
        "positions": atoms,
        "forces": atoms,
        "dipole": atoms,
        "energy": empty,
    }
    columns |= {name: np.zeros((0, 3, 3)) for name in ("cell", "stress")} | {"pbc": atoms.astype(bool)}
    columns |= {name: empty.astype(np.int64) for name in ("sizes", "charge", "spin", "group", "place", "fold")}
    return columns | {"ids": empty.astype(np.uint64)}


def _refuse_empty(settings: Settings, data: Labelled) -> None:
    places = ", ".join(f"'{path}'" for path in settings.paths)
    if not data.report.read:
        raise InputError(f"data: {places} holds no structure")
    first = data.report.grouped()[0]
    words = f"none of the structures in {places} can be used: {first['reason']} ({first['first']})"
    if first["reason"].startswith("no energy and no forces"):
        names = ", ".join(_reader(settings.paths[0]).names(settings.paths[0])) or "nothing"
        words += f"; labels in the file: {names} (set data.energy=NAME or data.forces.key=NAME)"
    raise InputError(f"data: {words}")


def _refuse_unlabelled(settings: Settings, data: Labelled, reader: Any) -> None:
    """Raise InputError if no structure has a label that the user names."""
    labels = {
        "data.energy": (settings.energy, None if np.isnan(data.energy).all() else data.energy),
        "data.forces.key": (settings.forces.key, data.forces),
        "data.stress.key": (settings.stress.key, data.stress),
        "data.dipole.key": (settings.dipole.key, data.dipole),
    }
    for setting, (name, values) in labels.items():
        if name is not None and values is None:
            names = ", ".join(reader.names(settings.paths[0]))
            raise InputError(f"{setting}={name}: no structure of '{settings.paths[0]}' has it; labels there: {names}")


__all__ = ["STREAM_FROM", "UNKNOWN_SPIN", "limited", "load"]
