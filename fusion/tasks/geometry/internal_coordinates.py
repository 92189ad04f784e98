"""Bonds, angles and dihedrals: their values, and rigid motions of a part of the molecule that change them.

Positions in bohr; values in Angstrom and degrees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fusion.chemistry import units
from fusion.chemistry.constraints import free
from fusion.errors import InputError

if TYPE_CHECKING:
    from fusion.chemistry.system import System

STRAIGHT_DEGREE = 175.0
"""A dihedral is not defined if one of its angles is wider than this: its axis is undetermined."""

_BONDED = 1.2  # times the sum of two covalent radii


@dataclass(frozen=True)
class Bond:
    """Distance of two atoms, Angstrom."""

    atoms: tuple[int, ...]

    name: ClassVar[str] = "bond"
    count: ClassVar[int] = 2
    unit: ClassVar[str] = "Å"
    key: ClassVar[str] = "angstrom"
    period: ClassVar[float | None] = None

    def value(self, positions: np.ndarray) -> float:
        first, second = positions[list(self.atoms)]
        return float(np.linalg.norm(second - first)) * units.ANGSTROM_PER_BOHR

    def refusal(self, value: float) -> str | None:
        """Reason why the distance cannot be `value` (Angstrom); None if it can."""
        return None if value > 0.1 else f"a bond of {value:g} Å is too short; give Angstrom, above 0.1"

    @property
    def cuts(self) -> tuple[tuple[int, int], ...]:
        """Pairs (stays, moves) of atoms: the bond to cut, and its end whose side moves."""
        first, second = self.atoms
        return (first, second), (second, first)

    def shifted(self, positions: np.ndarray, moving: np.ndarray, stays: int, change: float) -> np.ndarray:
        first, second = self.atoms
        axis = _unit(positions[second] - positions[first]) * (1.0 if stays == first else -1.0)
        moved = positions.copy()
        moved[moving] += change * units.BOHR_PER_ANGSTROM * axis
        return moved


@dataclass(frozen=True)
class Angle:
    """Angle at the second of three atoms, 0 ... 180 degrees."""

    atoms: tuple[int, ...]

    name: ClassVar[str] = "angle"
    count: ClassVar[int] = 3
    unit: ClassVar[str] = "°"
    key: ClassVar[str] = "degree"
    period: ClassVar[float | None] = None

    def value(self, positions: np.ndarray) -> float:
        first, apex, last = positions[list(self.atoms)]
        return _angle(first - apex, last - apex)

    def refusal(self, value: float) -> str | None:
        """Reason why the angle cannot be `value` (degrees): near 0 and 180 its plane is not defined; None if it can."""
        return None if 1.0 <= value <= 179.0 else f"an angle of {value:g}° is out of range: 1 to 179 degrees"

    @property
    def cuts(self) -> tuple[tuple[int, int], ...]:
        first, apex, last = self.atoms
        return (apex, last), (apex, first)

    def shifted(self, positions: np.ndarray, moving: np.ndarray, stays: int, change: float) -> np.ndarray:
        first, apex, last = self.atoms
        normal = np.cross(positions[first] - positions[apex], positions[last] - positions[apex])
        sense = 1.0 if moving[last] else -1.0
        return _turned(positions, moving, positions[apex], _unit(normal), sense * change)


@dataclass(frozen=True)
class Dihedral:
    """Torsion of four atoms about the middle two, -180 ... 180 degrees, IUPAC's sign."""

    atoms: tuple[int, ...]

    name: ClassVar[str] = "dihedral"
    count: ClassVar[int] = 4
    unit: ClassVar[str] = "°"
    key: ClassVar[str] = "degree"
    period: ClassVar[float | None] = 360.0

    def value(self, positions: np.ndarray) -> float:
        first, second, third, fourth = positions[list(self.atoms)]
        axis = _unit(third - second)
        first_normal, second_normal = np.cross(first - second, axis), np.cross(fourth - third, axis)
        return float(
            np.degrees(
                np.arctan2(np.dot(np.cross(first_normal, second_normal), axis), np.dot(first_normal, second_normal))
            )
        )

    def refusal(self, value: float) -> str | None:
        """None: every value is possible."""
        return None

    @property
    def cuts(self) -> tuple[tuple[int, int], ...]:
        _, second, third, _ = self.atoms
        return (second, third), (third, second)

    def shifted(self, positions: np.ndarray, moving: np.ndarray, stays: int, change: float) -> np.ndarray:
        _, second, third, _ = self.atoms
        axis = _unit(positions[third] - positions[second])
        sense = 1.0 if moving[third] else -1.0
        return _turned(positions, moving, positions[second], axis, sense * change)


InternalCoordinate = Bond | Angle | Dihedral
KINDS: dict[str, type[InternalCoordinate]] = {kind.name: kind for kind in (Bond, Angle, Dihedral)}


def chosen(kind: str | None, numbers: Sequence[int] | None, system: System) -> InternalCoordinate:
    """The coordinate of the settings: `numbers` count atoms from 1, and imply the kind if it is None.

    Raises InputError.
    """
    from fusion.tasks.geometry.structures import atom_indices

    if numbers is not None and (isinstance(numbers, str) or not isinstance(numbers, Sequence)):
        raise InputError(f"task.atoms is a list of atoms counted from 1, such as [1,2,3,4], not {numbers!r}")
    atoms = atom_indices(numbers, system, "task.atoms")
    if kind is not None and kind not in KINDS:
        raise InputError(f"task.coordinate must be bond, angle or dihedral, not {kind!r}")
    coordinate_class = (
        KINDS[kind] if kind is not None else next((k for k in KINDS.values() if k.count == len(atoms)), None)
    )
    if coordinate_class is None or len(atoms) != coordinate_class.count:
        requirement = (
            f"a {coordinate_class.name} needs {coordinate_class.count} atoms"
            if coordinate_class
            else "2 for a bond, 3 an angle, 4 a dihedral"
        )
        reason = f"not {list(numbers)}" if numbers else "and none are given: task.atoms=[1,2,3,4], counted from 1"
        raise InputError(f"task.atoms: {requirement}, {reason}")
    coordinate = coordinate_class(atoms)
    if not isinstance(coordinate, Bond):
        _check_straight(coordinate, system)
    return coordinate


def label(coordinate: InternalCoordinate, symbols: Sequence[str]) -> str:
    """Name of a coordinate with its atoms counted from 1: `dihedral C1-C2-C3-H4`."""
    return f"{coordinate.name} " + "-".join(f"{symbols[index]}{index + 1}" for index in coordinate.atoms)


def difference(coordinate: InternalCoordinate, to: float, of: float) -> float:
    """The change from `of` to `to`; for a dihedral between -180 and 180 degrees."""
    change = to - of
    return change if coordinate.period is None else (change + 180.0) % 360.0 - 180.0


class RigidMotion:
    """Change of a coordinate by a rigid motion of one of the two parts of the molecule that it connects.

    Cutting the bond of the coordinate gives the parts; bonds are judged by the distances of `system`. The smaller part
    without held atoms moves. Raises InputError if the bond is in a ring, or if both parts have held atoms.
    """

    def __init__(self, coordinate: InternalCoordinate, system: System) -> None:
        self.coordinate = coordinate
        bonded = bonds(system)
        parts = []
        for stays, moves in coordinate.cuts:
            moving = _part(bonded, stays, moves)
            moving_atoms = [index for index in coordinate.atoms if moving[index]]
            if not moving[stays] and moving_atoms in (_end(coordinate, moves), _end(coordinate, moves)[::-1]):
                parts.append((int(moving.sum()), stays, moving))
        if not parts:
            names = label(coordinate, system.symbols)
            raise InputError(
                f"task.relaxed=false: {names} does not connect two parts that could move apart (a ring?). "
                "Set task.relaxed=true to relax the other atoms"
            )
        held = ~free(system).all(axis=1)
        movable = [part for part in parts if not (part[2] & held).any()]
        if not movable:
            names = label(coordinate, system.symbols)
            raise InputError(
                f"task.relaxed=false: both parts of the molecule connected by {names} have held atoms. "
                "Set task.relaxed=true to move only the free atoms"
            )
        _, self._stays, self.moving = min(movable, key=lambda part: part[0])

    def to(self, value: float, positions: np.ndarray) -> np.ndarray:
        """Positions (A, 3) in bohr with the coordinate at `value`."""
        change = difference(self.coordinate, value, self.coordinate.value(positions))
        return self.coordinate.shifted(np.array(positions), self.moving, self._stays, change)


def bonds(system: System) -> np.ndarray:
    """Bonded pairs (A, A), bool: atoms nearer than 1.2 times the sum of their covalent radii."""
    from ase.data import covalent_radii

    radii = covalent_radii[system.numbers] * units.BOHR_PER_ANGSTROM
    distances = np.linalg.norm(system.positions[:, None] - system.positions[None, :], axis=-1)
    near = distances < _BONDED * (radii[:, None] + radii[None, :])
    np.fill_diagonal(near, False)
    return np.asarray(near)


def _part(bonded: np.ndarray, stays: int, moves: int) -> np.ndarray:
    """Mask (A,) of the atoms connected to `moves` when its bond to `stays` is cut."""
    bonded = bonded.copy()
    bonded[stays, moves] = bonded[moves, stays] = False
    reached = np.zeros(len(bonded), dtype=bool)
    frontier = [moves]
    while frontier:
        atom = frontier.pop()
        if not reached[atom]:
            reached[atom] = True
            frontier += np.flatnonzero(bonded[atom] & ~reached).tolist()
    return reached


def _end(coordinate: InternalCoordinate, moves: int) -> list[int]:
    """Atoms of the coordinate that must move together with `moves`."""
    place = coordinate.atoms.index(moves)
    if coordinate.count < 4:
        return [moves]
    return list(coordinate.atoms[place:]) if place == 2 else list(coordinate.atoms[: place + 1])


def _check_straight(coordinate: InternalCoordinate, system: System) -> None:
    atoms, limit = coordinate.atoms, 179.0 if isinstance(coordinate, Angle) else STRAIGHT_DEGREE
    for first in range(len(atoms) - 2):
        triple = atoms[first : first + 3]
        value = Angle(triple).value(system.positions)
        if not 180.0 - limit < value < limit:
            raise InputError(
                f"task.atoms: {label(Angle(triple), system.symbols)} is {value:.1f}°, so the {coordinate.name} has no "
                "defined direction to turn in; choose other atoms"
            )


def _unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / np.linalg.norm(vector))


def _angle(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(first, second)), np.dot(first, second))))


def _turned(
    positions: np.ndarray, moving: np.ndarray, centre: np.ndarray, axis: np.ndarray, degrees: float
) -> np.ndarray:
    """Positions with the atoms `moving` rotated about an axis through `centre` (Rodrigues' formula)."""
    angle = np.radians(degrees)
    arms = positions[moving] - centre
    along = np.outer(arms @ axis, axis)
    turned = positions.copy()
    turned[moving] = centre + along + np.cos(angle) * (arms - along) + np.sin(angle) * np.cross(axis, arms)
    return turned
