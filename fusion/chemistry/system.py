"""`System`: nuclei, charge and spin, checked once, and the reference energy of exactly this state.

All lengths of a `System` are in bohr; configurations may use Angstrom.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from ase.data import atomic_masses, atomic_numbers

from fusion.chemistry import core_potentials
from fusion.chemistry.core_potentials import CorePotential
from fusion.chemistry.formulas import formula
from fusion.chemistry.system_checks import (
    check_electrons,
    check_spin,
    checked_cell,
    checked_fixed,
    checked_masses,
    checked_nuclei,
    checked_positions,
    read_only,
)
from fusion.chemistry.units import ANGSTROM_PER_BOHR
from fusion.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class Reference:
    """Literature energy in hartree with its source and, if stated, its uncertainty in hartree."""

    value: float
    source: str
    uncertainty: float | None = None


@dataclass(frozen=True, eq=False)
class System:
    """Molecule, atom, crystal or electron gas.

    It has symbols (A,), positions (A, 3) in bohr, charge, and spin = N_up - N_down.

    A periodic system has a `cell` (3, 3) in bohr, with `pbc` per direction. The constructor checks everything and
    raises InputError in one line. Arrays are read-only. `spin_assumed` marks a spin that is the lowest possible because
    the input states none. `masses` (A,) are in daltons; None means natural mixtures of isotopes. `fixed` (A, 3) is True
    for every fixed Cartesian coordinate; None means that all may move. `notes` tell the user what the reader of a
    structure ignored or assumed. `cores` are the effective core potentials, one per element that has one; they replace
    its core electrons. `background` is the charge of a uniform positive background per cell; a system with one, the
    electron gas, may have no nuclei.
    """

    name: str
    symbols: tuple[str, ...]
    positions: np.ndarray
    charge: int = 0
    spin: int = 0
    cell: np.ndarray | None = None
    pbc: tuple[bool, bool, bool] = (False, False, False)
    reference: Reference | None = None
    spin_assumed: bool = False
    masses: np.ndarray | None = None
    fixed: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    cores: tuple[CorePotential, ...] = ()
    background: int = 0

    def __post_init__(self) -> None:
        cell = checked_cell(self.cell, self.pbc, len(self.symbols), self.name)
        if self.background and not all(self.pbc):
            raise InputError(f"{self.name} has a background charge; it needs a cell with three periodic directions")
        if self.background and not len(self.symbols):
            symbols, positions = tuple[str, ...](), np.zeros((0, 3))
        else:
            symbols, positions = checked_nuclei(self.symbols, self.positions, self.name, cell, self.pbc)
        object.__setattr__(self, "symbols", symbols)
        object.__setattr__(self, "positions", read_only(positions))
        object.__setattr__(self, "cell", cell)
        object.__setattr__(self, "masses", checked_masses(self.masses, symbols, self.name))
        object.__setattr__(self, "fixed", checked_fixed(self.fixed, symbols, self.name))
        check_electrons(self.formula, int(self.charges.sum()) + self.background, len(symbols), self.charge)
        check_spin(self.formula, self.n_electrons, self.charge, self.spin)

    @property
    def numbers(self) -> np.ndarray:
        """Atomic numbers, (A,) int."""
        return np.array([atomic_numbers[symbol] for symbol in self.symbols], dtype=int)

    @property
    def charges(self) -> np.ndarray:
        """Charges of the nuclei (A,) int, less the core electrons that effective potentials replace."""
        electrons = {core.symbol: core.electrons for core in self.cores}
        return self.numbers - np.array([electrons.get(symbol, 0) for symbol in self.symbols], dtype=int)

    @property
    def nuclear_masses(self) -> np.ndarray:
        """Masses (A,) in daltons for every use: `masses`, or the standard atomic weights."""
        return atomic_masses[self.numbers] if self.masses is None else self.masses

    @property
    def n_electrons(self) -> int:
        """Number of electrons, without those that effective core potentials replace."""
        return int(self.charges.sum()) + self.background - self.charge

    @property
    def n_up(self) -> int:
        """Number of spin-up electrons, at least that of spin-down electrons."""
        return (self.n_electrons + self.spin) // 2

    @property
    def n_down(self) -> int:
        """Number of spin-down electrons."""
        return (self.n_electrons - self.spin) // 2

    @property
    def multiplicity(self) -> int:
        """Multiplicity 2S + 1 of the state with S = spin / 2."""
        return self.spin + 1

    @property
    def formula(self) -> str:
        """Formula without the charge: Hill order with carbon (C2H6O), IUPAC element sequence otherwise (LiH, NH3).

        It is "electron gas" without nuclei.
        """
        return formula(self.symbols) if self.symbols else "electron gas"

    @property
    def is_electron_gas(self) -> bool:
        """True for electrons without nuclei, in a uniform background."""
        return not self.symbols

    @property
    def nuclear_repulsion(self) -> float:
        """Coulomb repulsion of the nuclei in hartree; for a periodic system, of the nuclei within one cell."""
        return nuclear_repulsion(self.charges, self.positions)

    def with_cores(self, cores: tuple[CorePotential, ...]) -> System:
        """Return the system with effective core potentials, and without its reference, an all-electron energy."""
        if not cores:
            return self
        note = f"core electrons replaced by {core_potentials.label(cores)}"
        return replace(self, cores=cores, reference=None, notes=(*self.notes, note))

    def with_positions(self, positions: np.ndarray) -> System:
        """Return the same nuclei, charge and spin at positions (A, 3) in bohr, without the reference energy."""
        return replace(self, positions=positions, reference=None)

    def moved(self, positions: np.ndarray, cell: np.ndarray | None = None) -> System:
        """Return the system at `positions`, and in `cell` (3, 3) if given; faster than `with_positions`.

        It is meant for the many steps of an algorithm. It checks that positions are finite, but not the distances of
        atoms. Raises InputError.
        """
        other = copy.copy(self)
        object.__setattr__(other, "positions", read_only(checked_positions(positions, self.symbols, self.name)))
        if cell is not None:
            object.__setattr__(other, "cell", checked_cell(cell, self.pbc, len(self.symbols), self.name))
        object.__setattr__(other, "reference", None)
        return other

    def with_spin_note(self) -> System:
        """Return the system, with a note if its assumed spin is doubtful."""
        from fusion.chemistry.spin_states import note

        spin_note = note(self)
        if spin_note is None or spin_note in self.notes:
            return self
        other = copy.copy(self)
        object.__setattr__(other, "notes", (*self.notes, spin_note))
        return other

    def to_atoms(self) -> Atoms:
        """Return the system as ASE Atoms (Angstrom), with `charge` and `multiplicity` in `info`, and masses if stated.

        There is no key `spin`: some calculators read it as 2S + 1, others as the number of unpaired electrons.
        """
        from ase import Atoms

        cell = None if self.cell is None else self.cell * ANGSTROM_PER_BOHR
        atoms = Atoms(self.symbols, positions=self.positions * ANGSTROM_PER_BOHR, cell=cell, pbc=self.pbc)
        atoms.info |= {"charge": self.charge, "multiplicity": self.multiplicity}
        if self.masses is not None:
            atoms.set_masses(self.masses)
        return atoms


def nuclear_repulsion(charges: np.ndarray, positions: np.ndarray) -> float:
    """Sum over pairs of Z_i Z_j / r_ij in hartree; charges (A,), positions (A, 3) in bohr."""
    first, second = np.triu_indices(len(charges), k=1)
    distances = np.linalg.norm(positions[first] - positions[second], axis=1)
    return float(np.sum(charges[first] * charges[second] / distances))
