"""Labelled structures, with the atoms of all structures in one array. Atomic units: hartree, bohr, e."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from fusion.chemistry.formulas import lowest_spin
from fusion.chemistry.system import System
from fusion.datasets.report import Report

UNKNOWN_SPIN = -1
"""Value in `Labelled.spin` for a spin that the data do not state; the lowest possible is assumed."""

_PER_ATOM = ("numbers", "positions", "forces")


@dataclass(frozen=True)
class Labelled:
    """M structures with N atoms in all; arrays may be memory-mapped. A missing label is NaN."""

    numbers: np.ndarray
    """(N,) uint8, atoms of all structures one after the other."""
    positions: np.ndarray
    """(N, 3) float64, bohr."""
    offsets: np.ndarray
    """(M + 1,) int64: structure i has the atoms offsets[i]:offsets[i + 1]."""
    energy: np.ndarray
    """(M,) float64, hartree, relative to `energy_zero`."""
    forces: np.ndarray | None
    """(N, 3) float64, hartree/bohr; None where no structure has any."""
    stress: np.ndarray | None
    """(M, 3, 3) hartree/bohr^3."""
    dipole: np.ndarray | None
    """(M, 3) e bohr."""
    cell: np.ndarray | None
    """(M, 3, 3) bohr, rows are the cell vectors, zero for a molecule; None if no structure is periodic."""
    pbc: np.ndarray | None
    """(M, 3) bool."""
    charge: np.ndarray
    """(M,) int16."""
    spin: np.ndarray
    """(M,) int16, N_up - N_down, or UNKNOWN_SPIN."""
    group: np.ndarray
    """(M,) int32, index of the molecule in `groups`."""
    groups: tuple[str, ...]
    """Names of the molecules: the name of the file's record, or the formula."""
    source: np.ndarray
    """(M,) int16, index in `sources` of the data set in a mixture; each has its own self energies."""
    sources: tuple[str, ...]
    ids: np.ndarray
    """(M,) uint64, digest of a structure (nuclei, cell, charge, spin), independent of its place in the data."""
    place: np.ndarray
    """(M,) int64, number of the structure in its file, or in its molecule if that has a name, from 1 on."""
    fold: np.ndarray | None = None
    """(M,) int16, the fold of the data that the file states."""
    energy_zero: str = "total"
    """"total"; "atomization": energies relative to separate atoms, negative for bound molecules; "difference" between
    two methods."""
    report: Report = field(default_factory=Report)
    """Structures left out on reading, duplicates, outliers and results of checks."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> np.ndarray:
        """Number of atoms of each structure, (M,)."""
        return np.diff(self.offsets)

    def atoms(self, indices: Any) -> np.ndarray:
        """Indices into the arrays of atoms for the structures `indices`, structure by structure."""
        indices = np.atleast_1d(np.asarray(indices, dtype=np.int64))
        sizes = self.offsets[indices + 1] - self.offsets[indices]
        ends = np.cumsum(sizes)
        return np.arange(ends[-1] if len(ends) else 0) + np.repeat(self.offsets[indices] - ends + sizes, sizes)

    def spins(self, indices: Any) -> np.ndarray:
        """N_up - N_down of the structures `indices`, or the lowest possible value if the data state none."""
        chosen = self.select(indices)
        electrons = np.add.reduceat(chosen.numbers, chosen.offsets[:-1]) - chosen.charge
        return np.where(chosen.spin == UNKNOWN_SPIN, electrons % 2, chosen.spin)

    def select(self, indices: Any) -> Labelled:
        """Copy the structures `indices`, in that order, into memory; groups and sources keep their names."""
        indices = np.asarray(indices, dtype=np.int64)
        atoms = self.atoms(indices)
        taken: dict[str, Any] = {}
        for column in fields(self):
            value = getattr(self, column.name)
            if column.name != "offsets" and isinstance(value, np.ndarray):
                taken[column.name] = np.asarray(value[atoms if column.name in _PER_ATOM else indices])
        sizes = self.offsets[indices + 1] - self.offsets[indices]
        return replace(self, offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), **taken)

    def name(self, index: int) -> str:
        """Name of a structure's molecule and its number, for messages and tables."""
        return f"{self.groups[int(self.group[index])]} #{int(self.place[index])}"

    def symbols(self, index: int) -> tuple[str, ...]:
        """Element symbols of a structure's atoms."""
        return tuple(chemical_symbols[z] for z in self.numbers[self.offsets[index] : self.offsets[index + 1]].tolist())

    def system(self, index: int) -> System:
        """Return one structure as a System. Raises InputError if its charge or spin is impossible."""
        symbols, spin, charge = self.symbols(index), int(self.spin[index]), int(self.charge[index])
        periodic = self.pbc is not None and bool(self.pbc[index].any())
        return System(
            self.name(index),
            symbols,
            np.array(self.positions[self.offsets[index] : self.offsets[index + 1]]),
            charge=charge,
            spin=lowest_spin(symbols, charge) if spin == UNKNOWN_SPIN else spin,
            cell=np.array(self.cell[index]) if periodic and self.cell is not None else None,
            pbc=tuple(bool(axis) for axis in self.pbc[index]) if periodic and self.pbc is not None else (False,) * 3,  # type: ignore[arg-type]
            spin_assumed=spin == UNKNOWN_SPIN,
        )

    def assumed_spins(self, indices: np.ndarray) -> np.ndarray:
        """Spins of the structures `indices`, (B,) int64, or the lowest possible value if the data state none."""
        starts = np.cumsum(self.offsets[indices + 1] - self.offsets[indices])
        nuclear = np.diff(np.cumsum(self.numbers[self.atoms(indices)].astype(np.int64))[starts - 1], prepend=0)
        spin = self.spin[indices].astype(np.int64)
        return np.where(spin == UNKNOWN_SPIN, (nuclear - self.charge[indices].astype(np.int64)) % 2, spin)
