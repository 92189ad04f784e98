"""Structures with energies and forces that somebody else computed, from a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion import units
from fusion.errors import InputError
from fusion.system import System

if TYPE_CHECKING:
    from ase import Atoms

_ENERGIES = {
    "ev": units.HARTREE_PER_EV,
    "hartree": 1.0,
    "kcal/mol": 1.0 / units.KCAL_MOL_PER_HARTREE,
    "kj/mol": 1.0 / units.KJ_MOL_PER_HARTREE,
}


@dataclass(frozen=True)
class Format:
    """How a file states its labels: units, and the names of what ASE does not know as energy and forces."""

    energy_unit: str = "eV"
    forces_per: str = "angstrom"
    energy_key: str | None = None
    forces_key: str | None = None
    gradients: bool = False

    @property
    def energy(self) -> float:
        """Hartree in one of the file's energies. Raises InputError for an unknown unit."""
        try:
            return _ENERGIES[str(self.energy_unit).lower()]
        except KeyError:
            raise InputError(
                f"task.energy_unit must be eV, hartree, kcal/mol or kJ/mol, not {self.energy_unit!r}"
            ) from None

    def unit_for(self, ratio: float) -> str | None:
        """The unit that energies are in which, read as being in `energy_unit`, are too large by `ratio`, within 2 %."""
        for name, hartree in _ENERGIES.items():
            if abs(ratio * hartree / self.energy - 1.0) < 0.02:
                return {"ev": "eV", "kj/mol": "kJ/mol"}.get(name, name)
        return None

    @property
    def force(self) -> float:
        """Hartree/bohr of force in one of what the file calls forces. Raises InputError for an unknown unit."""
        try:
            bohr = units.bohr_per(str(self.forces_per))
        except KeyError:
            raise InputError(f"task.forces_per must be angstrom or bohr, not {self.forces_per!r}") from None
        return (-1.0 if self.gradients else 1.0) * self.energy / bohr


@dataclass(frozen=True)
class Labelled:
    """One structure: `energy` in hartree and `forces` (A, 3) in hartree/bohr, None where the file has none.

    `problem` says why there is no `system` or no label; `name` is its place in the file.
    """

    name: str
    system: System | None
    energy: float | None = None
    forces: np.ndarray | None = None
    problem: str | None = None


def read(path: Path, form: Format) -> list[Labelled]:
    """All structures of a file, those with problems too. Raises InputError for a file that cannot be read."""
    if not path.is_file():
        raise InputError(f"task.data: no file '{path}'")
    if path.suffix.lower() in (".h5", ".hdf5"):
        return list(_read_hdf5(path, form))
    from ase.io import iread

    found: list[Labelled] = []
    try:
        for number, atoms in enumerate(iread(path, index=":"), start=1):
            found.append(_labelled(f"structure {number}", atoms, form))
    except Exception as error:  # ASE's readers raise whatever their parsing meets
        words = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"task.data: ASE cannot read '{path}' after structure {len(found)} ({words})") from error
    if not found:
        raise InputError(f"task.data: '{path}' holds no structure")
    if not any(one.energy is not None or one.forces is not None for one in found):
        raise InputError(f"task.data: {_missing_labels(path)}")
    return found


def _labelled(name: str, atoms: Atoms, form: Format) -> Labelled:
    energy, forces = _label(atoms, "energy", form.energy_key), _label(atoms, "forces", form.forces_key)
    try:
        system = System.from_atoms(atoms, int(atoms.info.get("charge", 0)), name=name)
    except InputError as error:
        return Labelled(name, None, problem=str(error))
    if energy is None and forces is None:
        return Labelled(name, system, problem="no energy and no forces")
    if forces is not None:
        forces = np.asarray(forces, dtype=float) * form.force
        if forces.shape != system.positions.shape or not np.isfinite(forces).all():
            return Labelled(name, system, problem="its forces are not three finite numbers per atom")
    if energy is not None:
        energy = float(energy) * form.energy
        if not np.isfinite(energy):
            return Labelled(name, system, problem="its energy is not a finite number")
    return Labelled(name, system, energy, forces)


def _label(atoms: Atoms, name: str, key: str | None) -> Any:
    """A label of ASE's name, or that the comment line or a column has under `key`."""
    if key is not None:
        return atoms.info.get(key, atoms.arrays.get(key))
    return atoms.calc.results.get(name) if atoms.calc is not None else None


def _missing_labels(path: Path) -> str:
    from ase.io import iread

    atoms = next(iter(iread(path, index=":")))
    columns = sorted(set(atoms.arrays) - {"numbers", "positions"})
    return (
        f"'{path}' has no energies and no forces; its comment lines have {', '.join(sorted(atoms.info)) or 'nothing'} "
        f"(task.energy_key=...), its columns {', '.join(columns) or 'nothing'} (task.forces_key=...)"
    )


def _read_hdf5(path: Path, form: Format) -> Iterator[Labelled]:
    """The layout of the ANI data sets: groups of one molecule each with `species` (A,), `coordinates` (F, A, 3) in
    Angstrom, `energies` (F,) and perhaps `forces` (F, A, 3)."""
    import h5py

    try:
        with h5py.File(path) as file:
            groups: list[str] = []
            file.visititems(
                lambda name, node: groups.append(name) if "coordinates" in getattr(node, "keys", dict)() else None
            )
            for name in groups:
                yield from _read_group(name, file[name], form)
    except OSError as error:
        raise InputError(f"task.data: '{path}' is no HDF5 file ({error})") from error
    if not groups:
        raise InputError(f"task.data: '{path}' has no group with species, coordinates and energies")


def _read_group(name: str, group: Any, form: Format) -> Iterator[Labelled]:
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    symbols = [word.decode() if isinstance(word, bytes) else str(word) for word in group["species"][:]]
    energies, forces = group.get(form.energy_key or "energies"), group.get(form.forces_key or "forces")
    plain = Format(form.energy_unit, form.forces_per, gradients=form.gradients)
    for number, positions in enumerate(group["coordinates"][:]):
        atoms = Atoms(symbols, positions)
        labels = {key: node[number] for key, node in (("energy", energies), ("forces", forces)) if node is not None}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        yield _labelled(f"{name}/{number}", atoms, plain)
