"""Reader of numpy archives: conformations of one molecule (rMD17) or many molecules padded with zeros (QM7)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fusion.chemistry import structure_state
from fusion.datasets.blocks import Block, Broken, numbers_of
from fusion.datasets.settings import Settings
from fusion.datasets.states import by_state
from fusion.errors import InputError
from fusion.files import bounds

_NUMBERS = ("nuclear_charges", "Z", "z", "species", "atomic_numbers", "numbers")
_POSITIONS = ("coords", "coordinates", "R", "positions")
_ENERGIES = ("energies", "energy", "E")
_FORCES = ("forces", "F")


def read(path: Path, settings: Settings) -> Iterator[Block | Broken]:
    """Yield the structures of an archive. Raises InputError for another file, or arrays whose shapes do not match."""
    arrays = _load(path)
    numbers = _atomic_numbers(_required(arrays, None, _NUMBERS, "atomic numbers", path), path)
    positions = _required(arrays, None, _POSITIONS, "positions", path)
    energy, forces = _optional(arrays, settings.energy, _ENERGIES), _optional(arrays, settings.forces.key, _FORCES)
    if settings.subtract is not None and energy is not None:
        energy = energy - _required(arrays, settings.subtract, (), "data.subtract", path)
    dipole, fold = _optional(arrays, settings.dipole.key, ()), _optional(arrays, settings.fold, ())
    labels: dict[str, Any] = {"energy": energy, "forces": forces, "dipole": dipole, "fold": fold}
    _check(path, numbers, positions, labels)
    states = {name: array for name, array in arrays.items() if structure_state.is_state_key(name)}
    if numbers.ndim == 1:
        yield from by_state(Block(None, 1, None, numbers, positions, **labels), states)
        return
    for start, end in _runs(numbers):
        real = numbers[start] != 0
        parts: dict[str, Any] = {name: None if array is None else array[start:end] for name, array in labels.items()}
        if parts["forces"] is not None:
            parts["forces"] = parts["forces"][:, real]
        block = Block(None, start + 1, None, numbers[start, real], positions[start:end, real], **parts)
        yield from by_state(block, {name: _part(array, start, end, len(numbers)) for name, array in states.items()})


def _part(array: np.ndarray, start: int, end: int, frames: int) -> np.ndarray:
    """Select the entries of conformations start..end from an array that may have one entry for all."""
    return array[start:end] if array.ndim and len(array) == frames else array


def names(path: Path) -> list[str]:
    """Names of the file's arrays."""
    return sorted(_load(path))


def _load(path: Path) -> Mapping[str, np.ndarray]:
    try:
        return bounds.npz(path)
    except (OSError, ValueError) as error:
        words = bounds.reason(error)
        raise InputError(f"data: '{path}' is not a numpy archive, or it is damaged ({words})") from error


def _atomic_numbers(array: np.ndarray, path: Path) -> np.ndarray:
    """Convert atomic numbers or symbols to int64; empty symbols are padding."""
    if array.dtype.kind in "SU":
        names, place = np.unique(array, return_inverse=True)
        symbols, numbers = numbers_of(names)
        unknown = [name for name, number in zip(symbols, numbers, strict=True) if name and not number]
        if unknown:
            raise InputError(f"data: '{path}' has the unknown element {unknown[0]!r}")
        return numbers[place].reshape(array.shape)
    if array.dtype.kind not in "iuf":
        raise InputError(f"data: the atomic numbers of '{path}' must be numbers or symbols, not {array.dtype}")
    return array.astype(np.int64)


def _optional(arrays: Mapping[str, np.ndarray], key: str | None, usual: tuple[str, ...]) -> np.ndarray | None:
    for name in (key,) if key is not None else usual:
        if name in arrays:
            return arrays[name]
    return None


def _required(
    arrays: Mapping[str, np.ndarray], key: str | None, usual: tuple[str, ...], quantity: str, path: Path
) -> np.ndarray:
    array = _optional(arrays, key, usual)
    if array is None:
        names = key or f"one of {', '.join(usual)}"
        raise InputError(f"data: '{path}' has no {quantity} ({names}); its arrays are {', '.join(sorted(arrays))}")
    return array


def _check(path: Path, numbers: np.ndarray, positions: np.ndarray, labels: Mapping[str, Any]) -> None:
    frames = len(positions)
    if positions.ndim != 3 or positions.shape[2] != 3 or numbers.shape[-1] != positions.shape[1]:
        raise InputError(
            f"data: positions of the shape {positions.shape} and atomic numbers {numbers.shape} in '{path}' do not "
            "match: (structures, atoms, 3) and (atoms,) or (structures, atoms) are needed"
        )
    if numbers.ndim == 2 and len(numbers) != frames:
        raise InputError(f"data: '{path}' has {frames} structures, but atomic numbers of {len(numbers)}")
    for name, array in labels.items():
        if array is not None and len(array) != frames:
            raise InputError(f"data: '{path}' has {frames} structures, but {name} of {len(array)}")
    if labels["forces"] is not None and labels["forces"].shape != positions.shape:
        raise InputError(f"data: forces of '{path}' have the shape {labels['forces'].shape}, not {positions.shape}")


def _runs(numbers: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield beginnings and ends of sequences of equal rows."""
    changes = np.flatnonzero((numbers[1:] != numbers[:-1]).any(axis=1)) + 1
    ends = [0, *changes.tolist(), len(numbers)]
    yield from itertools.pairwise(ends)
