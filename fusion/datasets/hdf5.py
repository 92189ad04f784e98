"""Reader of the HDF5 files of the ANI data sets, in two layouts. Both have Angstrom and hartree; dipoles in e Angstrom.

1. A group per molecule with `species` (A,), `coordinates` (F, A, 3) and `energies` (F,) (pyanitools; Smith, Isayev and
   Roitberg, Sci. Data 4, 170193 (2017)). `coordinatesHE` and `energiesHE` are conformations of high energy, which the
   publication's models were not trained on.
2. A group per formula with `atomic_numbers`, `coordinates` and an array for each level and property, such as
   `wb97x_dz.energy` (ANI-1x; Smith et al., Sci. Data 7, 134 (2020)). Forces and dipoles are read for the level of the
   energies.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fusion.chemistry import structure_state
from fusion.datasets.blocks import Block, Broken, Excluded, numbers_of
from fusion.datasets.hdf5_groups import Group
from fusion.datasets.settings import Settings
from fusion.datasets.states import by_state
from fusion.errors import InputError
from fusion.files import bounds

_ENERGIES = ("energies", "energy", "wb97x_dz.energy")
_FORCES = ("forces",)
_NUMBERS = ("atomic_numbers", "species", "numbers")
_SLICE = 20_000  # conformations in memory at a time
HIGH = "HE"


def read(path: Path, settings: Settings) -> Iterator[Block | Broken | Excluded]:
    """Yield the molecules of a file. Raises InputError for a file that is truncated or not HDF5."""
    import h5py

    try:
        with h5py.File(bounds.regular(path)) as file:
            for name, group in Group(file, path).molecules():
                frames_read = 0
                try:
                    for part in _molecule(name, group, settings):
                        yield part
                        frames_read += len(part.positions) if isinstance(part, Block) else 0
                except InputError:
                    raise
                except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
                    # The rest of the file may still be readable.
                    reason = f"HDF5 cannot read it ({bounds.reason(error)})"
                    yield Broken(name, reason, max(1, _frames(group) - frames_read))
    except InputError:
        raise
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        words = bounds.reason(error)
        kind = "it is truncated" if "truncated" in words else f"it is not an HDF5 file, or damaged ({words})"
        raise InputError(f"data: '{path}' cannot be read: {kind}; download or copy it again") from error


def names(path: Path) -> list[str]:
    """Names of the first molecule's arrays."""
    import h5py

    with h5py.File(path) as file:
        for _, group in Group(file, path).molecules():
            return sorted(group)
    return []


def _frames(group: Group) -> int:
    """Number of conformations of a damaged molecule; 0 if even that cannot be read."""
    try:
        return len(group["coordinates"])
    except (OSError, KeyError, RuntimeError, TypeError):
        return 0


def _molecule(name: str, group: Group, settings: Settings) -> Iterator[Block | Broken | Excluded]:
    key = next((key for key in _NUMBERS if key in group), None)
    if key is None:
        yield Broken(name, f"it has no {' and no '.join(_NUMBERS)}", len(group["coordinates"]))
        return
    species = group[key][()]
    symbols, numbers = (None, species.astype(np.int64)) if species.dtype.kind in "iu" else numbers_of(species)
    yield from _part(name, 1, group, symbols, numbers, settings, "")
    high = f"coordinates{HIGH}"
    if high in group and len(group[high]):
        if settings.high_energies:
            yield from _part(name, 1 + len(group["coordinates"]), group, symbols, numbers, settings, HIGH)
        else:
            yield Excluded(len(group[high]), "conformations of high energy excluded (data.high_energies=true for them)")


def _part(
    name: str, first: int, group: Group, symbols: Any, numbers: np.ndarray, settings: Settings, suffix: str
) -> Iterator[Block | Broken]:
    """Yield the conformations of a molecule from the arrays whose names end in `suffix`."""
    coordinates = group[f"coordinates{suffix}"]
    frames = len(coordinates)
    columns = {
        "energy": _array(group, settings.energy, _ENERGIES, suffix),
        "forces": _array(group, settings.forces.key, (*_FORCES, *_of_level(group, settings, "forces")), suffix),
        "dipole": _array(group, settings.dipole.key, _of_level(group, settings, "dipole"), suffix),
        "fold": group.get(settings.fold) if settings.fold and not suffix else None,
    }
    subtracted = group.get(settings.subtract + suffix) if settings.subtract else None
    for label, node in columns.items():
        if node is not None and len(node) != frames:
            yield Broken(name, f"{len(node)} {label} for {frames} conformations", frames)
            return
    states = _states(group, suffix, frames)
    for start in range(0, frames, _SLICE):
        part = slice(start, start + _SLICE)
        labels: dict[str, Any] = {label: None if node is None else node[part] for label, node in columns.items()}
        if settings.subtract and labels["energy"] is not None:
            labels["energy"] = labels["energy"] - (np.nan if subtracted is None else subtracted[part])
        block = Block(name, first + start, symbols, numbers, coordinates[part], **labels)
        parts = {key: node[part] if node.size == frames else node[()] for key, node in states.items()}
        yield from by_state(block, parts)


def _states(group: Group, suffix: str, frames: int) -> dict[str, Any]:
    """Arrays of charges or spins, with one number for all conformations or one for each."""
    keys = [key for key in group if structure_state.is_state_key(key)]
    nodes = {key: _array(group, None, (f"{key}{suffix}", key), "") for key in keys}
    return {key: node for key, node in nodes.items() if node is not None and node.size in (1, frames)}


def _of_level(group: Group, settings: Settings, label: str) -> tuple[str, ...]:
    """Name of a label at the level of the energies, such as `wb97x_dz.dipole`; empty if the energies name no level."""
    energy = settings.energy or next((name for name in _ENERGIES if name in group), "")
    level, dot, _ = energy.rpartition(".")
    return (f"{level}.{label}",) if dot else ()


def _array(group: Group, key: str | None, usual: tuple[str, ...], suffix: str) -> Any:
    for name in (key,) if key is not None else usual:
        if f"{name}{suffix}" in group:
            return group[f"{name}{suffix}"]
    return None
