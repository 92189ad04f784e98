"""Conversion of systems with moving atoms to ASE Atoms; trajectories and structure files."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixConstraint
from ase.io import write
from ase.stress import full_3x3_to_voigt_6_stress

from fusion.chemistry import constraints, units
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.files.atomic import naming, record, write_atomically
from fusion.methods import ase_calculator
from fusion.methods.ase_calculator import FusionCalculator
from fusion.methods.protocol import Method
from fusion.runs.results import Result

HARTREE_BOHR_PER_EV_ANGSTROM = 1.0 / units.EV_ANGSTROM_PER_HARTREE_BOHR


class SystemCalculator(FusionCalculator):
    """The ASE calculator of one system whose atoms move.

    `properties` (forces, stress) are always calculated together, so that a step costs one calculation.
    """

    warns = False

    def __init__(self, method: Method, system: System, properties: Iterable[str] = ("forces",)) -> None:
        super().__init__(method, system.charge, system.spin)
        self._origin, self._always = system, tuple(properties)

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, *changes: Any, **more: Any) -> None:
        super().calculate(atoms, [*(properties or ()), *self._always], *changes, **more)

    def system(self, atoms: Atoms) -> System:
        return moved(self._origin, atoms)


def atoms_of(system: System, method: Method, properties: Iterable[str] = ("forces",)) -> Atoms:
    """The system as ASE Atoms with a calculator for `method`."""
    atoms = system.to_atoms()
    atoms.calc = SystemCalculator(method, system, properties)
    return atoms


def constrained(system: System) -> Atoms:
    """The system as ASE Atoms, with its held coordinates as ASE constraints."""
    atoms = system.to_atoms()
    atoms.set_constraint(constraints.of_ase(system))
    return atoms


def moved(system: System, atoms: Atoms) -> System:
    """The system with positions, and cell if it has one, of `atoms` (Angstrom); held coordinates stay bit for bit."""
    result = ase_calculator.moved(system, atoms)
    return result if system.fixed is None else result.moved(constraints.placed(system, result.positions))


def largest_force(forces: np.ndarray) -> float:
    """Norm of the largest of the forces (A, 3), in their unit; zero without atoms."""
    return float(np.linalg.norm(np.asarray(forces).reshape(-1, 3), axis=1).max(initial=0.0))


def without_torque(forces: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Forces (A, 3) without the part that only rotates the atoms at `positions` (A, 3) as a whole.

    A free molecule has no torque, but numerical quadrature on a grid fixed in space creates one.
    """
    centred = positions - positions.mean(axis=0)
    rotations = np.stack([np.cross(axis, centred).ravel() for axis in np.eye(3)], axis=1)
    coefficients = np.linalg.lstsq(rotations, np.ravel(forces), rcond=1e-6)[0]
    return np.asarray(forces - (rotations @ coefficients).reshape(-1, 3))


class NoTorque(FixConstraint):
    """An ASE constraint that removes the torque from the forces, so that noise does not rotate a molecule."""

    def adjust_positions(self, atoms: Atoms, new: np.ndarray) -> None:
        """Leave `new` as it is: positions are not constrained."""

    def adjust_forces(self, atoms: Atoms, forces: np.ndarray) -> None:
        """Remove the torque from `forces` (A, 3) in place."""
        forces[:] = without_torque(forces, atoms.positions)


def atom_indices(numbers: Sequence[int] | None, system: System, setting: str) -> tuple[int, ...]:
    """Indices from 0 of the atoms in a setting, which counts them from 1 as messages do. Raises InputError."""
    indices = []
    for number in numbers or ():
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= len(system.symbols):
            raise InputError(
                f"{setting}: no atom {number!r} in {system.formula}, whose atoms are 1 ... {len(system.symbols)}"
            )
        indices.append(number - 1)
    if len(set(indices)) < len(indices):
        raise InputError(f"{setting} names an atom twice: {list(numbers or ())}")
    return tuple(indices)


def frame(result: Result, **info: Any) -> Atoms:
    """A result as ASE Atoms with energy, forces and stress in eV and Angstrom, and `info` for the comment line.

    It has the masses and held coordinates of the system, so that a run that starts from the file uses the same.
    """
    atoms = constrained(result.system)
    values: dict[str, Any] = {}
    if result.energy is not None:
        values["energy"] = result.energy * units.EV_PER_HARTREE
    if "forces" in result.properties:
        values["forces"] = np.asarray(result.properties["forces"]) * units.EV_ANGSTROM_PER_HARTREE_BOHR
    if "stress" in result.properties:
        stress = np.asarray(result.properties["stress"]) * units.EV_ANGSTROM3_PER_HARTREE_BOHR3
        values["stress"] = full_3x3_to_voigt_6_stress(stress)
    atoms.calc = SinglePointCalculator(atoms, **values)
    atoms.info = header(result.system) | info
    return atoms


class Trajectory:
    """An extxyz file (Angstrom, eV), written anew frame by frame; every frame is flushed at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None

    def __enter__(self) -> Trajectory:
        self._file = record(self.path).open("w")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with naming(self.path):
                self._file.close()

    def add(self, atoms: Atoms) -> None:
        """Append one frame."""
        assert self._file is not None
        with naming(self.path):
            write(self._file, atoms, format="extxyz")
            self._file.flush()


def write_frames(path: Path, frames: Sequence[Atoms]) -> None:
    """Write `frames` to an extxyz file atomically."""
    text = io.StringIO()
    write(text, list(frames), format="extxyz")
    write_atomically(path, text.getvalue())


def write_structure(path: Path, result: Result) -> None:
    """Write an extxyz file for `system=FILE`, with the energy (eV), the charge, and the spin if it was given."""
    atoms = frame(result)
    if atoms.calc is not None:
        atoms.calc.results = {key: value for key, value in atoms.calc.results.items() if key == "energy"}
    write_frames(path, [atoms])


def header(system: System) -> dict[str, Any]:
    """Charge, if not zero, and multiplicity, if not assumed, for the comment line of a file."""
    charge = {"charge": system.charge} if system.charge else {}
    return charge if system.spin_assumed else charge | {"multiplicity": system.multiplicity}
