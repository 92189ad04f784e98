"""Labels of structures in files that ASE reads: XYZ, databases, trajectories, and folders of such files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.chemistry import reader_errors, structure_state
from fusion.chemistry.formulas import formula
from fusion.chemistry.structure_files import frames
from fusion.datasets.blocks import Block, Broken
from fusion.datasets.labelled import UNKNOWN_SPIN
from fusion.datasets.settings import Settings
from fusion.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms

_ENERGIES = ("energy", "free_energy", "Energy", "total_energy", "dft_energy", "E", "U0")
_FORCES = ("forces", "force", "Forces", "dft_forces")
_STRESSES, _DIPOLES = ("stress", "dft_stress"), ("dipole", "dft_dipole")
_NO_LABELS = ("not_converged", "failed")
"""Statuses of structures, in fusion's own files, whose energies are no labels."""
_VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])


def read(path: Path, settings: Settings) -> Iterator[Block | Broken]:
    """Yield the structures of a file, or of all XYZ files of a folder in the order of their names.

    Raises InputError for an unreadable file. In a folder such a file becomes a `Broken`.
    """
    files = _files(path)
    number = 0
    for file in files:
        count = 0
        try:
            for atoms in frames(file):
                count, number = count + 1, number + 1
                yield _read(atoms, number, settings)
        except InputError:
            raise
        except Exception as error:  # ASE's readers raise exceptions of many types
            if len(files) == 1:
                place = f" after structure {count}" if count else ""
                raise InputError(f"data: cannot read '{file}'{place}: {reader_errors.reason(error, file)}") from error
            number += 1
            yield Broken(f"structure #{number}", reader_errors.reason(error, file))


def _read(atoms: Atoms | str, number: int, settings: Settings) -> Block | Broken:
    """Convert one structure, or return the reason why it cannot be used."""
    if isinstance(atoms, str):
        return Broken(f"structure #{number}", reader_errors.without_line(atoms))
    if atoms.info.get("status") in _NO_LABELS:
        name = f"{formula(atoms.get_chemical_symbols())} #{number}"
        return Broken(name, f"its status, {atoms.info['status']}, says that it has no label")
    try:
        return _block(atoms, number, settings)
    except structure_state.Misstated as error:
        return Broken(f"{formula(atoms.get_chemical_symbols())} #{number}", str(error))


def names(path: Path) -> list[str]:
    """Names of the labels of the first structure: keys of its comment line or row, and columns."""
    for atoms in frames(_files(path)[0]):
        if isinstance(atoms, str):
            continue
        labels = set(atoms.calc.results) if atoms.calc is not None else set()
        return sorted({*map(str, atoms.info), *(set(atoms.arrays) - {"numbers", "positions"}), *labels})
    return []


def stated(path: Path, key: str) -> list[str]:
    """Different entries of the first comment lines of the files, such as `level_of_theory` of fusion's labels."""
    first = [next(frames(file), "") for file in _files(path)]
    return list(dict.fromkeys(str(a.info[key]) for a in first if not isinstance(a, str) and key in a.info))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    structures = [file for file in files if file.suffix.lower() in (".xyz", ".extxyz")]
    if not structures:
        raise InputError(f"data: the folder '{path}' holds no .xyz or .extxyz file")
    return structures


def _block(atoms: Atoms, number: int, settings: Settings) -> Block:
    count = len(atoms)
    energy = _label(atoms, settings.energy, _ENERGIES)
    if energy is None and settings.energy is None:
        energy = _bare_number(atoms)
    if energy is not None and settings.subtract is not None:
        energy = _scalar(energy) - _scalar(_label(atoms, settings.subtract, ()))
    forces = _label(atoms, settings.forces.key, _FORCES)
    stress = _label(atoms, settings.stress.key, _STRESSES)
    dipole = _label(atoms, settings.dipole.key, _DIPOLES)
    fold = atoms.info.get(settings.fold) if settings.fold is not None else None
    periodic = bool(np.any(atoms.pbc))
    state = structure_state.read(atoms)
    return Block(
        name=None,
        first=number,
        symbols=None,
        numbers=atoms.numbers,
        positions=atoms.positions[None],
        energy=None if energy is None else np.array([_scalar(energy)]),
        forces=None if forces is None else _shaped(forces, (1, count, 3)),
        stress=None if stress is None else _matrix(stress)[None],
        dipole=None if dipole is None else _shaped(dipole, (1, 3)),
        cell=np.array(atoms.cell) if periodic else None,
        pbc=tuple(bool(axis) for axis in atoms.pbc),  # type: ignore[arg-type]
        charge=state.charge,
        spin=UNKNOWN_SPIN if state.spin is None else state.spin,
        fold=None if fold is None else np.array([_whole(atoms.info, str(settings.fold), 0)]),
    )


def _label(atoms: Atoms, key: str | None, usual: tuple[str, ...]) -> Any:
    """Return a label by its name, or by the first of the usual names, from any place where ASE stores labels."""
    places = (atoms.calc.results if atoms.calc is not None else {}, atoms.info, atoms.arrays)
    for name in (key,) if key is not None else usual:
        for place in places:
            if name in place:
                return place[name]
    return None


def _bare_number(atoms: Atoms) -> float | None:
    """Energy of a plain XYZ file whose comment line is a single number."""
    if len(atoms.info) != 1:
        return None
    try:
        return float(next(iter(atoms.info)))
    except ValueError:
        return None


def _scalar(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _shaped(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return the array in that shape. An array that does not fit becomes (1, 0, 3) NaN, which counts as broken."""
    try:
        return np.asarray(value, dtype=float).reshape(shape)
    except (TypeError, ValueError):
        return np.full((1, 0, 3), np.nan)


def _matrix(stress: Any) -> np.ndarray:
    """Stress (3, 3) from ASE's six Voigt components or from nine; NaN from anything else."""
    array = np.ravel(np.asarray(stress, dtype=float))
    return array[_VOIGT] if array.size == 6 else array.reshape(3, 3) if array.size == 9 else np.full((3, 3), np.nan)


def _whole(info: dict[str, Any], name: str, usual: int) -> int:
    value = info.get(name, usual)
    number = structure_state.whole(value)
    if number is None:
        raise structure_state.Misstated(f"its {name}, {value}, is not a whole number")
    return number
