"""Output of the readers: conformations of one molecule in the file's units, and their conversion to atomic units."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusion.chemistry import cells
from fusion.chemistry.formulas import formula
from fusion.chemistry.system_checks import CLOSEST_NUCLEI
from fusion.datasets.labelled import UNKNOWN_SPIN
from fusion.datasets.report import Report
from fusion.datasets.settings import Units

HEAVIEST = 118
_CHUNK = 20_000_000  # distances computed at a time


@dataclass
class Block:
    """F conformations of A atoms in the file's units. Labels are None if the file has none, NaN for a missing one."""

    name: str | None
    """Name of the molecule; None: its formula."""
    first: int
    """Number of the first conformation in its file, or in its molecule if that has a name."""
    symbols: tuple[str, ...] | None
    """Symbols for messages about unknown elements; None where `numbers` come from the file."""
    numbers: np.ndarray
    """(A,) int; zero where a symbol is unknown."""
    positions: np.ndarray
    """(F, A, 3)."""
    energy: np.ndarray | None = None
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    dipole: np.ndarray | None = None
    cell: np.ndarray | None = None
    """(3, 3), the same for all F."""
    pbc: tuple[bool, bool, bool] = (False, False, False)
    charge: int = 0
    spin: int = UNKNOWN_SPIN
    fold: np.ndarray | None = None


@dataclass
class Excluded:
    """Conformations that a setting excludes, and the text `what` for the report."""

    number: int
    what: str


@dataclass
class Broken:
    """Record of `number` conformations that could not be read."""

    name: str
    reason: str
    number: int = 1


class Converter:
    """Converts blocks into columns in atomic units; counts unusable conformations in `report`."""

    def __init__(self, units: Units, report: Report) -> None:
        self.units, self.report = units, report
        self.groups: dict[str, int] = {}

    def columns(self, block: Block) -> Iterator[dict[str, np.ndarray]]:
        """Yield the usable conformations of `block` as columns, if there are any; atoms are in one sequence."""
        frames = len(block.positions)
        self.report.read += frames
        problem = self._of_molecule(block)
        if problem is not None:
            self._leave_out(block, np.arange(frames), problem)
            return
        if block.energy is not None:
            block.energy = block.energy.reshape(frames)
        good = self._good(block)
        if not good.any():
            return
        yield self._converted(block, np.flatnonzero(good))

    def group(self, block: Block) -> int:
        name = block.name or formula(_symbols(block.numbers))
        return self.groups.setdefault(name, len(self.groups))

    def _of_molecule(self, block: Block) -> str | None:
        """Return a fault that all conformations share, or None."""
        if block.numbers.ndim != 1:
            return f"its atomic numbers have the shape {block.numbers.shape}"
        for name in ("positions", "energy", "forces", "stress", "dipole", "fold"):
            if (array := getattr(block, name)) is not None and array.dtype.kind not in "iuf":
                return f"its {name} of the type {array.dtype} cannot be used as real numbers"
        unknown = np.flatnonzero((block.numbers < 1) | (block.numbers > HEAVIEST))
        if len(unknown) or not len(block.numbers):
            if not len(block.numbers):
                return "it has no atoms"
            element = block.symbols[unknown[0]] if block.symbols is not None else int(block.numbers[unknown[0]])
            return f"unknown element {element!r}"
        if block.positions.shape[1:] != (len(block.numbers), 3):
            return f"its positions have the shape {block.positions.shape[1:]} for {len(block.numbers)} atoms"
        if block.energy is None and block.forces is None:
            return "no energy and no forces"
        for name, size in (("energy", 1), ("dipole", 3), ("stress", 9), ("fold", 1)):
            label = getattr(block, name)
            if label is not None and label.size != size * len(block.positions):
                return f"its {name} is not {'one number' if size == 1 else f'{size} numbers'}"
        cell = None if block.cell is None else np.asarray(block.cell, dtype=float) * self.units.length
        fault = cells.fault(cell, block.pbc, len(block.numbers))
        if fault is not None:
            return f"it {fault}"
        nuclear = int(block.numbers.sum())
        electrons = nuclear - block.charge
        if electrons < 0:
            return f"its charge, {block.charge}, is more than that of its nuclei"
        if electrons > 2 * nuclear + len(block.numbers):
            return f"its charge, {block.charge}, is more than its nuclei bind"
        spin = electrons % 2 if block.spin == UNKNOWN_SPIN else block.spin
        if (electrons - spin) % 2 or not 0 <= spin <= electrons:
            return f"its spin (N_up - N_down), {spin}, is impossible with {electrons} electrons"
        return None

    def _good(self, block: Block) -> np.ndarray:
        """(F,) bool; those that are not are counted with the reason."""
        good = np.ones(len(block.positions), dtype=bool)

        def drop(bad: np.ndarray, reason: str) -> None:
            self._leave_out(block, np.flatnonzero(bad & good), reason)
            good[bad] = False

        drop(~np.isfinite(block.positions).all(axis=(1, 2)), "a coordinate is not a finite number")
        drop(_closest(block.positions) * self.units.length < CLOSEST_NUCLEI, "two nuclei on one spot")
        missing_forces = np.ones(len(good), dtype=bool)
        if block.forces is not None:
            if block.forces.shape != block.positions.shape:
                drop(good.copy(), "its forces are not three finite numbers per atom")
                return good
            missing_forces = np.isnan(block.forces).all(axis=(1, 2))
            broken = ~np.isfinite(block.forces).all(axis=(1, 2)) & ~missing_forces
            drop(broken, "its forces are not three finite numbers per atom")
        if block.energy is not None:
            drop(~np.isfinite(block.energy), "its energy is not a finite number")
        else:
            drop(missing_forces, "no energy and no forces")
        return good

    def _leave_out(self, block: Block, frames: np.ndarray, reason: str) -> None:
        known = len(block.numbers) > 0 and bool((block.numbers > 0).all() and (block.numbers <= HEAVIEST).all())
        name = block.name or (formula(_symbols(block.numbers)) if known else "structure")
        self.report.left_out += [(f"{name} #{block.first + int(frame)}", reason) for frame in frames]

    def _converted(self, block: Block, frames: np.ndarray) -> dict[str, np.ndarray]:
        number, atoms = len(frames), len(block.numbers)
        whole = len(frames) == len(block.positions)

        def taken(array: np.ndarray | None, shape: tuple[int, ...], factor: float) -> np.ndarray:
            if array is None:
                return np.full((number, *shape), np.nan)
            return (array if whole else array[frames]).astype(np.float64).reshape(number, *shape) * factor

        units = self.units
        positions = taken(block.positions, (atoms, 3), units.length)
        cell = np.zeros((3, 3)) if block.cell is None or not any(block.pbc) else block.cell * units.length
        return {
            "numbers": np.tile(block.numbers.astype(np.uint8), number),
            "positions": positions.reshape(-1, 3),
            "sizes": np.full(number, atoms, dtype=np.int64),
            "energy": taken(block.energy, (), units.energy),
            "forces": taken(block.forces, (atoms, 3), units.force).reshape(-1, 3),
            "stress": taken(block.stress, (3, 3), units.stress),
            "dipole": taken(block.dipole, (3,), units.dipole),
            "cell": np.tile(cell, (number, 1, 1)),
            "pbc": np.tile(np.array(block.pbc, dtype=bool), (number, 1)),
            "charge": np.full(number, block.charge, dtype=np.int16),
            "spin": np.full(number, block.spin, dtype=np.int16),
            "group": np.full(number, self.group(block), dtype=np.int32),
            "ids": identities(block.numbers, positions, cell, block.charge, block.spin),
            "place": (block.first + frames).astype(np.int64),
            "fold": np.full(number, -1, np.int16) if block.fold is None else block.fold[frames].astype(np.int16),
        }


def identities(numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, charge: int, spin: int) -> np.ndarray:
    """(F,) uint64: a digest of what each conformation is, positions (F, A, 3) rounded to a millionth of a bohr."""
    head = b"".join((numbers.astype(np.uint8).tobytes(), _rounded(cell).tobytes(), f"{charge} {spin}".encode()))
    rounded = _rounded(positions)
    digests = (hashlib.blake2b(head + one.tobytes(), digest_size=8).digest() for one in rounded)
    return np.frombuffer(b"".join(digests), dtype="<u8")


def _rounded(lengths: np.ndarray) -> np.ndarray:
    return np.rint(lengths * 1e6).astype("<i8")


def _closest(positions: np.ndarray) -> np.ndarray:
    """(F,) distances of the nearest atoms, periodic images left out; infinite for one atom."""
    frames, atoms = positions.shape[:2]
    first, second = np.triu_indices(atoms, k=1)
    nearest = np.full(frames, np.inf)
    step = max(1, _CHUNK // max(1, 3 * len(first)))
    for start in range(0, frames if atoms > 1 else 0, step):
        part = positions[start : start + step]
        difference = part[:, first] - part[:, second]
        nearest[start : start + step] = np.sqrt((difference**2).sum(axis=2).min(axis=1))
    return nearest


def _symbols(numbers: np.ndarray) -> tuple[str, ...]:
    from ase.data import chemical_symbols

    return tuple(chemical_symbols[int(number)] for number in numbers)


def numbers_of(symbols: Any) -> tuple[tuple[str, ...], np.ndarray]:
    """Symbols as text and their atomic numbers (A,), zero for what is no element."""
    from ase.data import atomic_numbers

    words = tuple(word.decode() if isinstance(word, bytes) else str(word) for word in symbols)
    numbers = [atomic_numbers.get(word.capitalize() if word.islower() else word, 0) for word in words]
    return words, np.array(numbers, dtype=np.int64)
