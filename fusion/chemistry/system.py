"""`System`: nuclei, charge and spin, checked once, and the reference energy of exactly this state.

All lengths of a `System` are in bohr; configurations may use Angstrom.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import atomic_masses, atomic_numbers

from fusion.chemistry import cells, core_potentials
from fusion.chemistry.core_potentials import CorePotential
from fusion.chemistry.formulas import formula
from fusion.chemistry.units import ANGSTROM_PER_BOHR
from fusion.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms

CLOSEST_NUCLEI = 0.05
"""Nuclei nearer than this (bohr) count as an error of the input."""

_FEW = 100
"""Number of atoms up to which computing all distances is fastest."""


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
        cell = _checked_cell(self.cell, self.pbc, len(self.symbols), self.name)
        if self.background and not all(self.pbc):
            raise InputError(f"{self.name} has a background charge; it needs a cell with three periodic directions")
        if self.background and not len(self.symbols):
            symbols, positions = tuple[str, ...](), np.zeros((0, 3))
        else:
            symbols, positions = checked_nuclei(self.symbols, self.positions, self.name, cell, self.pbc)
        object.__setattr__(self, "symbols", symbols)
        object.__setattr__(self, "positions", _read_only(positions))
        object.__setattr__(self, "cell", cell)
        object.__setattr__(self, "masses", _checked_masses(self.masses, symbols, self.name))
        object.__setattr__(self, "fixed", _checked_fixed(self.fixed, symbols, self.name))
        _check_electrons(self.formula, int(self.charges.sum()) + self.background, len(symbols), self.charge)
        _check_spin(self.formula, self.n_electrons, self.charge, self.spin)

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
        object.__setattr__(other, "positions", _read_only(_checked_positions(positions, self.symbols, self.name)))
        if cell is not None:
            object.__setattr__(other, "cell", _checked_cell(cell, self.pbc, len(self.symbols), self.name))
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


def checked_nuclei(
    symbols: Sequence[str],
    positions: Any,
    name: str,
    cell: np.ndarray | None = None,
    pbc: tuple[bool, bool, bool] = (False, False, False),
) -> tuple[tuple[str, ...], np.ndarray]:
    """Return symbols in proper spelling and positions (A, 3) as floats. Raises InputError that names a wrong atom."""
    proper = _checked_symbols(symbols, name)
    array = _checked_positions(positions, proper, name)
    _check_distances(proper, array, name, cell, pbc)
    return proper, array


def _read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def _checked_symbols(symbols: Sequence[str], name: str) -> tuple[str, ...]:
    if len(symbols) == 0:
        raise InputError(f"{name} has no atoms")
    checked = []
    for index, symbol in enumerate(symbols, start=1):
        # Lower case is unambiguous (li, cl); "CO" might be a molecule or cobalt and is refused.
        proper = symbol.capitalize() if symbol.islower() else symbol
        if atomic_numbers.get(proper, 0) == 0:
            raise InputError(f"unknown element {symbol!r} (atom {index} of {name}); write symbols like H, Li, Cl")
        checked.append(proper)
    return tuple(checked)


def _checked_positions(positions: Any, symbols: Sequence[str], name: str) -> np.ndarray:
    try:
        array = np.array(positions, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"positions of {name} must be three numbers per atom") from None
    if array.shape != (len(symbols), 3):
        raise InputError(
            f"{name} has {len(symbols)} symbols, so its positions must be {len(symbols)} rows of three numbers; "
            f"they have shape {array.shape}"
        )
    for index in np.flatnonzero(~np.isfinite(array).all(axis=1)).tolist():
        raise InputError(f"atom {index + 1} ({symbols[index]}) of {name} has a coordinate that is not a finite number")
    return array


def _checked_cell(cell: Any, pbc: Sequence[bool], atoms: int, name: str) -> np.ndarray | None:
    """Return a valid cell (3, 3), or None for a molecule. Raises InputError."""
    try:
        array = None if cell is None else np.array(cell, dtype=float).reshape(3, 3)
    except (TypeError, ValueError):
        raise InputError(f"the cell of {name} must be three vectors of three numbers") from None
    fault = cells.fault(array, pbc, atoms)
    if fault is not None:
        raise InputError(f"{name} {fault}")
    return _read_only(array) if array is not None and any(pbc) else None


def _checked_masses(masses: Any, symbols: Sequence[str], name: str) -> np.ndarray | None:
    if masses is None:
        return None
    array = np.array(masses, dtype=float)
    if array.shape != (len(symbols),) or not np.all(np.isfinite(array) & (array > 0)):
        raise InputError(f"masses of {name} must be one positive number of daltons per atom")
    return _read_only(array)


def _checked_fixed(fixed: Any, symbols: Sequence[str], name: str) -> np.ndarray | None:
    if fixed is None:
        return None
    array = np.array(fixed, dtype=bool)
    if array.shape != (len(symbols), 3):
        raise InputError(f"fixed coordinates of {name} must be three values of true or false per atom")
    return _read_only(array) if array.any() else None


def _check_distances(
    symbols: Sequence[str], positions: np.ndarray, name: str, cell: np.ndarray | None, pbc: tuple[bool, bool, bool]
) -> None:
    if cell is None and len(symbols) <= _FEW:
        distances = np.linalg.norm(positions[:, None] - positions[None, :], axis=-1)
        first, second = np.nonzero(np.triu(distances < CLOSEST_NUCLEI, k=1))
        near = distances[first, second]
    else:
        first, second, near = near_pairs(positions, cell, pbc)
    if len(near) and near.min() < CLOSEST_NUCLEI:
        worst = int(near.argmin())
        i, j = sorted((int(first[worst]), int(second[worst])))
        raise InputError(
            f"two nuclei on one spot: atoms {i + 1} ({symbols[i]}) and {j + 1} ({symbols[j]}) of {name} are "
            f"{near[worst] * ANGSTROM_PER_BOHR:.3g} Angstrom apart"
        )


def near_pairs(
    positions: np.ndarray, cell: np.ndarray | None, pbc: tuple[bool, bool, bool]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find pairs of atoms within 4 bohr, periodic images included: two arrays of indices and the distances.

    Positions (A, 3) and cell (3, 3) in bohr. Time and memory are linear in the number of atoms.
    """
    import vesin

    search = vesin.NeighborList(cutoff=4.0, full_list=False)  # a much shorter cutoff is slower: it has more cells
    box = np.zeros((3, 3)) if cell is None else np.asarray(cell)
    first, second, distances = search.compute(np.asarray(positions), box, list(pbc), quantities="ijd")
    return first, second, distances


def _check_electrons(label: str, nuclear: int, atoms: int, charge: int) -> None:
    electrons = nuclear - charge
    if electrons <= 0:
        raise InputError(
            f"{label} with charge {charge} has no electrons: its nuclei have {nuclear} positive charges, "
            f"so system.charge must be below {nuclear}"
        )
    most = 2 * nuclear + atoms - 1
    if electrons > most:
        raise InputError(
            f"{label} with charge {charge} would have {electrons} electrons; no state binds more than {most} "
            f"(Lieb's bound N < 2Z + K), so system.charge must be at least {nuclear - most}"
        )


def _check_spin(label: str, electrons: int, charge: int, spin: int) -> None:
    allowed = list(range(electrons % 2, electrons + 1, 2))
    if spin in allowed:
        return
    count = f"{electrons} electron" + ("s" if electrons > 1 else "")
    parity = "even" if electrons % 2 == 0 else "odd"
    raise InputError(
        f"{label} with charge {charge} has {count}, so system.spin (N_up - N_down) must be "
        f"{parity}: {_choice(allowed)}, not {spin}"
    )


def _choice(values: list[int]) -> str:
    shown = [str(value) for value in values]
    if len(shown) > 4:
        return f"{shown[0]}, {shown[1]}, ... {shown[-1]}"
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " or " + shown[-1]
