"""Data of the grid kept during one SCF: relevant points, orbitals there and integrals of local exchange."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from pyscf import gto
from pyscf.dft.numint import NumInt

from fusion.errors import InputError
from fusion.functionals.local_exchange.cache import KeptIntegrals
from fusion.functionals.local_exchange.local_exchange import LocalExchange

BLOCK: Final = 512
"""Number of grid points per block; PySCF sorts its grids so that these are close together."""
GROUP: Final = 64
"""Largest number of blocks per evaluation of a functional."""
NO_ORBITAL: Final = 1e-11
"""Basis functions that are below this in a whole block, with their gradients, do not enter its matrix products."""


@dataclass(frozen=True)
class Block:
    """Some points of the grid and the values of the orbitals there."""

    compact: np.ndarray
    """(V, a, G): values of the `active` basis functions, and their gradients if V = 4."""
    active: np.ndarray
    """(a,) indices of the basis functions that do not vanish at these points."""
    size: int
    """Number n of all basis functions."""
    coords: np.ndarray
    """(G, 3) bohr."""
    weights: np.ndarray
    """(G,)."""
    largest: np.ndarray
    """(G,): largest absolute value of a basis function at each point."""
    nuclei: np.ndarray
    """(A, 3): positions of the molecule's nuclei, bohr."""
    index: int = 0
    """Index of the block in its grid."""
    kept: KeptIntegrals | None = None
    """Integrals of local exchange kept for the blocks of this grid."""

    def exchange(self, vectors: np.ndarray, single: bool = False) -> np.ndarray | None:
        """F (W, S, n, G) of E (S, n, G) from kept integrals; None if there are none and no room for them."""
        if self.kept is None:
            return None
        return self.kept.contract(self.index, self.coords, self.weights, self.largest, vectors, single)

    @cached_property
    def orbitals(self) -> np.ndarray:
        """(V, n, G): values of all basis functions."""
        if len(self.active) == self.size:
            return self.compact
        values = np.zeros((len(self.compact), self.size, len(self.weights)))
        values[:, self.active] = self.compact
        return values


@dataclass(frozen=True)
class Dropped:
    """Points with a negligible contribution to the energy."""

    points: int = 0
    electrons: float = 0.0
    """Integral of the density over these points."""
    energy: float = 0.0
    """Estimate in hartree: `electrons` times the largest energy per electron at the least dense points kept."""


class WorkingGrid:
    """Points `kept` of a grid for one molecule, in blocks; orbitals and integrals are stored as far as they fit.

    `memory` (bytes) is for everything: the work arrays of a group of blocks first, then F of the blocks without stored
    integrals, orbitals, and integrals. Raises InputError if a single block does not fit.
    """

    def __init__(
        self,
        mol: gto.Mole,
        grids: Any,
        kept: np.ndarray,
        exchange: LocalExchange | None,
        derivative: int,
        spins: int,
        memory: float,
    ) -> None:
        self.mol, self.exchange, self.derivative, self.spins = mol, exchange, derivative, spins
        self._molecule = fingerprint(mol)
        self._grid = grids.coords, grids.weights
        self._copies = grids.coords.copy(), grids.weights.copy()
        self.kept, self.nuclei = kept, nuclei(mol)
        self.coords, self.weights = grids.coords[kept], grids.weights[kept]
        self.starts = range(0, len(self.weights), BLOCK)
        self._orbitals: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        self.last_exchange: dict[int, np.ndarray] = {}
        """F (W, S, n, G) of blocks without stored integrals, at `reference`; single precision, for drafts."""
        self.reference: np.ndarray | None = None
        """Density matrices of the last complete integration."""
        self.dropped_electrons = 0.0
        self._plan(memory)

    def _plan(self, memory: float) -> None:
        """Decide how many blocks are processed at once and which arrays are stored."""
        size, points = self.mol.nao, len(self.weights)
        ranges = 0 if self.exchange is None else len(self.exchange.omegas)
        orbitals = 8.0 * (3 * self.derivative + 1) * size
        fixed, block = least_memory(self.mol, len(self._copies[1]), self.exchange, self.derivative)
        if memory < fixed + block:
            raise InputError(
                f"memory_mb: {memory / 1e6:.1f} MB are too little for {size} basis functions and {points} grid points; "
                f"at least {math.ceil((fixed + block) / 1e6)} MB are needed"
            )
        self.group = int(min(GROUP, max(1, (memory - fixed) / 4 // block)))
        remaining = memory - fixed - self.group * block
        padded = BLOCK * len(self.starts)
        exchange, orbitals = 4.0 * ranges * self.spins * size * padded, orbitals * padded
        integrals = 0.0 if self.exchange is None else self.exchange.stored_bytes * padded
        # F first: recomputing orbitals takes less time.
        self.stores_exchange = orbitals + integrals > remaining and 0.0 < exchange <= remaining
        remaining -= exchange if self.stores_exchange else 0.0
        self.stores_orbitals = orbitals <= remaining
        remaining -= orbitals if self.stores_orbitals else 0.0
        self.integrals = None if self.exchange is None else KeptIntegrals(self.exchange, remaining)
        """Integrals of local exchange kept for the blocks."""

    @property
    def stored_blocks(self) -> int:
        """Number of blocks whose integrals are kept."""
        return 0 if self.integrals is None else len(self.integrals)

    def is_of(self, mol: gto.Mole) -> bool:
        """True if molecule and basis are those of this grid."""
        return fingerprint(mol) == self._molecule

    def belongs_to(self, mol: gto.Mole, grids: Any) -> bool:
        """True if molecule, basis and grid are those of this object."""
        return (
            self.is_of(mol)
            and np.array_equal(grids.coords, self._copies[0])
            and np.array_equal(grids.weights, self._copies[1])
        )

    def __len__(self) -> int:
        return len(self.starts)

    def dropped(self, energy_per_electron: float) -> Dropped:
        """Upper estimate of the contribution of the points that are not kept."""
        electrons = self.dropped_electrons
        return Dropped(int(len(self.kept) - len(self.weights)), electrons, electrons * energy_per_electron)

    def blocks(self) -> Iterator[Block]:
        """Iterate over all blocks, in order."""
        return (self.block(index) for index in range(len(self)))

    def block(self, index: int) -> Block:
        """Return one block."""
        points = slice(self.starts[index], self.starts[index] + BLOCK)
        coords = self.coords[points]
        orbitals = self._orbitals.get(index)
        if orbitals is None:
            orbitals = active_orbitals(self.mol, coords, self.derivative)
            if self.stores_orbitals:
                self._orbitals[index] = orbitals
        compact, active, largest = orbitals
        weights = self.weights[points]
        return Block(compact, active, self.mol.nao, coords, weights, largest, self.nuclei, index, self.integrals)


def least_memory(mol: gto.Mole, points: int, exchange: LocalExchange | None, derivative: int) -> tuple[float, float]:
    """Bytes needed for a molecule and a grid of `points`, and for each block that is processed at the same time."""
    size, ranges = mol.nao, 0 if exchange is None else len(exchange.omegas)
    # For two spins: E, F, its padded copy and its product, orbitals times matrices and potentials.
    block = BLOCK * size * 16.0 * (3 * derivative + 5 + 3 * ranges)
    # For each point its place and weight, and the functional's energy density and derivatives (15 numbers).
    fixed = 96.0 * size**2 + 152.0 * points
    if exchange is not None:
        fixed += 2.0 * sum(array.nbytes for array in exchange.pairs)
    return fixed, block


def plain_blocks(mol: gto.Mole, grids: Any, derivative: int, points: np.ndarray | None = None) -> Iterator[Block]:
    """Iterate over a grid, or its chosen points (indices), in blocks without keeping any data."""
    coords, weights = grids.coords, grids.weights
    if points is not None:
        coords, weights = coords[points], weights[points]
    of_nuclei = nuclei(mol)
    for start in range(0, len(weights), BLOCK):
        chosen = slice(start, start + BLOCK)
        compact, active, largest = active_orbitals(mol, coords[chosen], derivative)
        yield Block(compact, active, mol.nao, coords[chosen], weights[chosen], largest, of_nuclei)


def nuclei(mol: gto.Mole) -> np.ndarray:
    """Positions (A, 3) of the atoms with a nuclear charge, bohr: ghost atoms bring basis functions and points only."""
    return np.ascontiguousarray(mol.atom_coords()[mol.atom_charges() > 0])


def active_orbitals(mol: gto.Mole, coords: np.ndarray, derivative: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Basis functions (V, a, G) with gradients that do not vanish at the points (G, 3), and their indices (a,).

    Also the largest absolute value (G,) of a basis function.
    """
    values = np.reshape(NumInt().eval_ao(mol, coords, derivative), (-1, len(coords), mol.nao)).transpose(0, 2, 1)
    sizes = np.maximum(values.max(axis=2), -values.min(axis=2))
    active = np.flatnonzero(sizes.max(axis=0) > NO_ORBITAL)
    compact = values if len(active) == mol.nao else values[:, active]
    return np.ascontiguousarray(compact), active, np.abs(values[0]).max(axis=0)


def fingerprint(mol: gto.Mole) -> tuple[bytes, bytes, bytes, bool]:
    """Return what molecules with the same atoms and basis share."""
    env = mol._env[gto.PTR_ENV_START :]  # what comes before, such as the origin of integrals, changes between calls
    return mol._atm.tobytes(), mol._bas.tobytes(), env.tobytes(), bool(mol.cart)
