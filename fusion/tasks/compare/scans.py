"""Scans as the subject of a comparison: points along a coordinate or frames of a file, relative to one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.tasks.compare.subject import Point, Structure, Subject
from fusion.tasks.geometry import internal_coordinates

_MOST_POINTS = 999
_KEYS = ("atoms", "coordinate", "start", "stop", "points", "values")


def subject(settings: Any, system: System) -> Subject:
    """Rigid scan of a bond, an angle or a dihedral: `{atoms: [1,2,3,4], start: 0, stop: 360, points: 13}`, or
    `values: [...]` in Angstrom or degrees. Raises InputError."""
    if not isinstance(settings, Mapping) or set(settings) - set(_KEYS):
        raise InputError(
            f"task.scan: {settings!r} is no scan; write task.scan={{atoms: [1,2], start: 0.8, stop: 2.5, points: 9}} "
            "or values: [...] instead of start, stop and points"
        )
    if any(system.pbc):
        raise InputError(f"task.scan moves parts of molecules; {system.name} is periodic")
    coordinate = _coordinate(settings, system)
    values = _values(settings, coordinate, system)
    label = internal_coordinates.label(coordinate, system.symbols)
    try:
        motion = internal_coordinates.RigidMotion(coordinate, system)
    except InputError:
        raise InputError(
            f"task.scan is rigid, but the {label} does not divide the molecule into two parts (a ring?); task=scan "
            "relaxes the other coordinates, and task.frames=scan.extxyz compares its points"
        ) from None
    structures, points = [], []
    for index, value in enumerate(values):
        name = _name(index)
        structures.append(Structure(name, system.with_positions(motion.to(float(value), system.positions))))
        points.append(Point(name, float(value)))
    title = f"{len(points)} points of the {label} of {system.formula}, rigid"
    return Subject("scan", title, tuple(structures), (), tuple(points), f"{label} / {coordinate.unit}")


def frames(file: str, system: System, start_dir: Path) -> Subject:
    """Structures of a file, all with the same atoms. Charge and spin are those of `system` if it has the same ones.

    Raises InputError.
    """
    from fusion.chemistry import structure_files
    from fusion.chemistry.structures import in_state_of, system_of

    path = start_dir / Path(file).expanduser()
    if not path.is_file():
        raise InputError(f"task.frames: no file {path}")
    try:
        images = structure_files.all_frames(path)
    except Exception as error:  # ASE's readers raise anything
        raise InputError(f"task.frames: {path} cannot be read: {' '.join(str(error).split())}") from error
    if not 2 <= len(images) <= _MOST_POINTS:
        raise InputError(f"task.frames: {path} holds {len(images)} structures; 2 to {_MOST_POINTS} can be compared")
    symbols = images[0].get_chemical_symbols()
    template = system if sorted(symbols) == sorted(system.symbols) else system_of(images[0])
    template = replace(template, name=path.stem)
    structures, points = [], []
    for index, image in enumerate(images):
        if sorted(image.get_chemical_symbols()) != sorted(symbols):
            raise InputError(f"task.frames: structure {index + 1} of {path} has other atoms than the first")
        if any(image.pbc):
            raise InputError(f"task.frames: structure {index + 1} of {path} is periodic")
        try:
            structure = in_state_of(image, template, f"structure {index + 1} of {path.name}")
        except InputError as error:
            raise InputError(f"task.frames: {error}") from None
        structures.append(Structure(_name(index), structure))
        points.append(Point(_name(index), float(index + 1)))
    title = f"{len(points)} structures of {path.name}"
    return Subject("scan", title, tuple(structures), (), tuple(points), "structure / number")


def _coordinate(settings: Mapping[str, Any], system: System) -> internal_coordinates.InternalCoordinate:
    try:
        return internal_coordinates.chosen(settings.get("coordinate"), settings.get("atoms"), system)
    except InputError as error:
        raise InputError(str(error).replace("task.", "task.scan.")) from None


def _name(index: int) -> str:
    return f"point-{index + 1:03d}"


def _values(
    settings: Mapping[str, Any], coordinate: internal_coordinates.InternalCoordinate, system: System
) -> np.ndarray:
    """Values (points,) of the coordinate. Raises InputError."""
    if settings.get("values") is not None:
        if any(settings.get(key) is not None for key in ("start", "stop", "points")):
            raise InputError("task.scan: give values, or start, stop and points, not both")
        listed = settings["values"]
    else:
        number, start, stop = settings.get("points", 13), settings.get("start"), settings.get("stop")
        if isinstance(number, bool) or not isinstance(number, int):
            raise InputError(f"task.scan.points must be a whole number, not {number!r}")
        start = coordinate.value(system.positions) if start is None else start
        stop = start + 360.0 if stop is None and coordinate.period else stop
        if stop is None:
            raise InputError(
                f"task.scan.stop is missing; give the last value of the {coordinate.name} in {coordinate.unit}"
            )
        listed = np.linspace(start, stop, number) if number > 1 else [start]
    try:
        values = np.array(listed, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"task.scan.values must be numbers of {coordinate.unit}, not {listed!r}") from None
    if values.ndim != 1 or not 2 <= len(values) <= _MOST_POINTS:
        raise InputError(f"task.scan: a scan has 2 to {_MOST_POINTS} points, not {values.size}")
    for value in values:
        refusal = coordinate.refusal(float(value)) if np.isfinite(value) else f"a {coordinate.name} of {value}"
        if refusal is not None:
            raise InputError(f"task.scan: {refusal}")
    return values
