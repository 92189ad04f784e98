"""Gaussian cube files: a scalar field on a regular grid, with the nuclei, as PySCF, VMD and Avogadro read them.

Two lines of comment; number of nuclei and the first grid point; points along each axis and the step along it; atomic
number, charge and position of each nucleus; then the values, the last axis fastest, six per line. Lengths are in bohr.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusion.errors import InputError
from fusion.files import bounds

_LONGEST = 1 << 27  # largest size of a cube file that is read, in bytes
_PER_LINE = 6


@dataclass(frozen=True)
class Cube:
    """Values (X, Y, Z) at the points `origin` + x `steps[0]` + y `steps[1]` + z `steps[2]`, bohr.

    The nuclei have atomic numbers (A,), charges (A,) and positions (A, 3) in bohr.
    """

    values: np.ndarray
    origin: np.ndarray
    steps: np.ndarray
    numbers: np.ndarray
    charges: np.ndarray
    positions: np.ndarray

    @property
    def volume(self) -> float:
        """Volume of a voxel, bohr^3."""
        return float(abs(np.linalg.det(self.steps)))


def content(cube: Cube, first: str, second: str) -> bytes:
    """Return the contents of a cube file with two lines of comment."""
    return "".join(_lines(cube, (first, second))).encode()


def read(path: Path) -> Cube:
    """Read a cube file with one field, in bohr. Raises InputError for a damaged file."""
    try:
        return _parsed(bounds.text(path, _LONGEST))
    except (ValueError, IndexError) as error:
        raise InputError(f"{path} cannot be read as a cube file: {bounds.reason(error)}") from None


def _lines(cube: Cube, comments: tuple[str, str]) -> Iterator[str]:
    yield from (f"{comment}\n" for comment in comments)
    yield _row(len(cube.numbers), cube.origin)
    for points, step in zip(cube.values.shape, cube.steps, strict=True):
        yield _row(points, step)
    for number, charge, position in zip(cube.numbers, cube.charges, cube.positions, strict=True):
        yield _row(number, [charge, *position])
    for row in cube.values.reshape(-1, cube.values.shape[-1]).tolist():
        for first in range(0, len(row), _PER_LINE):
            part = row[first : first + _PER_LINE]
            yield ("%13.5E" * len(part) + "\n") % tuple(part)


def _row(whole: int, numbers: np.ndarray | list[float]) -> str:
    return f"{whole:5d}" + "".join(f"{number:12.6f}" for number in numbers) + "\n"


def _parsed(text: str) -> Cube:
    lines = text.splitlines()
    nuclei, *origin = lines[2].split()
    atoms, grid = int(nuclei), [line.split() for line in lines[3:6]]
    shape = tuple(int(row[0]) for row in grid)
    if atoms < 0 or min(shape) < 1:
        raise ValueError("only a single field with lengths in bohr is supported")
    table = np.array([line.split() for line in lines[6 : 6 + atoms]], dtype=float).reshape(atoms, 5)
    values = np.array(" ".join(lines[6 + atoms :]).split(), dtype=float)
    if len(values) != math.prod(shape):
        raise ValueError(f"it declares {math.prod(shape):,} values and has {len(values):,}")
    return Cube(
        values.reshape(shape),
        np.array(origin[:3], dtype=float).reshape(3),
        np.array([row[1:4] for row in grid], dtype=float).reshape(3, 3),
        table[:, 0].astype(int),
        table[:, 1],
        table[:, 2:],
    )
