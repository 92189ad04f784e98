"""Structures that a page shows: the result's molecule, trajectories and modes, as plain numbers in Angstrom.

A trajectory is thinned to the number of frames that fit into the page. Frames are read line by line, as extended XYZ
with the element and the position first, which is how fusion writes them.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TextIO

from fusion.files import bounds
from fusion.runs.task import Trajectory

_MOST_FRAMES: Final = 200
_MOST_ATOMS: Final = 2000
_BYTES_PER_ATOM: Final = 24  # of a position on the page
_WORD: Final = re.compile(r'([A-Za-z_]\w*)=("[^"]*"|\S+)')
_SHOWN: Final = {
    "step": ("step", "", 0),
    "time_fs": ("time", " fs", 1),
    "frequency_cm1": ("", " cm⁻¹", 1),
    "conformer": ("conformer", "", 0),
    "relative_kcal_mol": ("", " kcal/mol above the lowest", 2),
    "energy": ("energy", " eV", 4),
}
"""Words of a comment line that label a frame: name, unit, decimals."""
_UNITS: Final = {"degree": "°", "angstrom": " Å"}


@dataclass(frozen=True)
class Frame:
    """Structure: elements, positions (A, 3) in Angstrom, a label, and the words of the comment line."""

    symbols: tuple[str, ...]
    positions: tuple[tuple[float, float, float], ...]
    label: str = ""
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """Frames to be shown in turn; of a mode only the equilibrium, with the largest displacements (A, 3)."""

    title: str
    frames: tuple[Frame, ...]
    displacements: tuple[tuple[float, float, float], ...] = ()
    cell: Sequence[Sequence[float]] | None = None
    left_out: int = 0

    @property
    def size(self) -> int:
        """Approximate size on the page in bytes."""
        rows = sum(len(frame.positions) for frame in self.frames) + len(self.displacements)
        return _BYTES_PER_ATOM * rows + 200

    def plain(self) -> dict[str, Any]:
        """Return the view as JSON; frames with the elements of the first one do not repeat them."""
        first = self.frames[0].symbols
        return {
            "title": self.title,
            "symbols": first,
            "frames": [
                {"xyz": _flat(frame.positions), "label": frame.label}
                | ({} if frame.symbols == first else {"symbols": frame.symbols})
                for frame in self.frames
            ],
            **({"mode": _flat(self.displacements)} if self.displacements else {}),
            **({"cell": self.cell} if self.cell else {}),
        }


def molecule(system: Mapping[str, Any], title: str = "structure") -> View | None:
    """Return the structure in the `system` of a result; None for one without atoms, such as an electron gas."""
    symbols, positions = system.get("symbols") or [], system.get("positions") or []
    try:
        rows = tuple((float(x), float(y), float(z)) for x, y, z in positions)
        cell = [[float(value) for value in row] for row in system.get("cell") or []] or None
    except (TypeError, ValueError):
        return None
    finite = all(math.isfinite(value) for row in rows for value in row)
    if not symbols or len(symbols) != len(rows) or len(rows) > _MOST_ATOMS or not finite:
        return None
    name = str(system.get("name") or system.get("formula") or "")
    return View(title, (Frame(tuple(map(str, symbols)), rows, name),), cell=cell)


def view(trajectory: Trajectory, room: int) -> View | None:
    """Read a trajectory in about `room` bytes; None if its file holds no structure or not even one fits."""
    try:
        with bounds.regular(trajectory.file).open(encoding="utf-8", errors="replace") as file:
            first = next(_frames(file), None)
            if first is None or len(first.positions) * _BYTES_PER_ATOM > room:
                return None
            file.seek(0)
            return _mode(trajectory, file) if trajectory.mode else _path(trajectory, file, room // len(first.positions))
    except (OSError, ValueError):
        return None


def _path(trajectory: Trajectory, file: TextIO, room: int) -> View | None:
    """View of evenly spaced frames. Of every two frames kept one goes whenever there are too many."""
    most = max(2, min(_MOST_FRAMES, room // _BYTES_PER_ATOM))
    kept: list[Frame] = []
    every = number = 1
    last = None
    for number, last in enumerate(_frames(file), start=1):  # both are used below
        if (number - 1) % every == 0:
            kept.append(last)
        if len(kept) > most:
            kept, every = kept[::2], 2 * every
    if last is not None and kept[-1] is not last:
        kept.append(last)
    return View(trajectory.title, tuple(kept), left_out=number - len(kept))


def _mode(trajectory: Trajectory, file: TextIO) -> View | None:
    """View of a vibration: the displacements of the frame that is farthest from the first, the equilibrium."""
    frames = list(itertools.islice(_frames(file), 100))
    still = frames[0]
    moved = [[_minus(a, b) for a, b in zip(f.positions, still.positions, strict=True)] for f in frames]
    largest = max(moved, key=lambda rows: sum(value * value for row in rows for value in row))
    frequency = still.words.get("frequency_cm1")
    title = trajectory.title if frequency is None else f"{trajectory.title}: {_wavenumber(frequency)}"
    return View(title, (Frame(still.symbols, still.positions),), tuple(largest))


def _wavenumber(text: str) -> str:
    value = float(text)
    return f"{abs(value):.1f}{'i' if value < 0 else ''} cm⁻¹"


def _minus(a: tuple[float, float, float], b: tuple[float, float, float]) -> tuple[float, float, float]:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _frames(file: TextIO) -> Iterator[Frame]:
    """Yield the complete structures of a file; a kill can leave half a last one. Raises ValueError for another file."""
    while line := file.readline(100):
        if not line.strip():
            continue
        number = int(line)
        if not 0 < number <= _MOST_ATOMS:
            raise ValueError(f"{number} atoms")
        words = {key: value.strip('"') for key, value in _WORD.findall(file.readline())}
        rows = [file.readline().split() for _ in range(number)]
        if any(len(row) < 4 for row in rows):
            return
        positions = tuple((float(x), float(y), float(z)) for _, x, y, z, *_ in rows)
        yield Frame(tuple(row[0] for row in rows), positions, _label(words), words)


def _label(words: Mapping[str, str]) -> str:
    """Format the words of a comment line that say what a frame is: `step 3 · energy -4217.5083 eV`."""
    parts = []
    for key, value in words.items():
        stem, _, unit = key.rpartition("_")
        shown = _SHOWN.get(key) or ((stem, _UNITS[unit], 3) if unit in _UNITS else None)
        if shown:
            name, unit, decimals = shown
            parts.append(f"{name} {_decimal(value, decimals)}{unit}".strip())
    return " · ".join(parts)


def _decimal(text: str, decimals: int) -> str:
    try:
        return f"{float(text):.{decimals}f}"
    except ValueError:
        return text


def _flat(rows: Sequence[Sequence[float]]) -> list[float]:
    return [round(value, 3) for row in rows for value in row]
