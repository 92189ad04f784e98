"""Local Hartree-Fock exchange on a grid: integrals over one electron's position, analytic, contracted with orbitals.

    nu_bd(r; omega) = int chi_b(r') erf(omega |r - r'|) / |r - r'| chi_d(r') dr'          (omega = 0: 1 / |r - r'|)
    F_b(r) = sum_d nu_bd(r) E_d(r),    E_d(r) = sum_a D_da chi_a(r),    e_x(r) = -1/2 sum_b E_b(r) F_b(r)

Kirkpatrick et al., Science 374, 1385 (2021), supplement, sec. 1.3. nu is computed for a few points at a time and
discarded (semi-numerical exchange: Neese et al., Chem. Phys. 356, 98 (2009)), or kept in reduced precision if there is
memory.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from pyscf import gto

from fusion.functionals.local_exchange.contractions import contract_direct, near
from fusion.functionals.local_exchange.integrals import CHUNK, Tables, tables, workspace
from fusion.functionals.local_exchange.quantised import Kept, contract_kept, keep, measure
from fusion.functionals.local_exchange.shell_pairs import ShellPairs, shell_pairs
from fusion.parallel.thread_pool import each_range


class LocalExchange:
    """Integrals of a molecule's basis for several range separations `omegas` (1/bohr)."""

    def __init__(self, mol: gto.Mole, omegas: tuple[float, ...]) -> None:
        self.mol, self.omegas = mol, omegas

    @cached_property
    def pairs(self) -> ShellPairs:
        """Pairs of shells of the basis."""
        return shell_pairs(self.mol)

    @property
    def stored_bytes(self) -> int:
        """Bytes for nu at one grid point, all range separations."""
        return 4 * len(self.omegas) * int(self.pairs.rows[-1])

    def sizes(self, vectors: np.ndarray, weights: np.ndarray, largest: np.ndarray) -> np.ndarray:
        """Magnitudes of E (S, n, G) for the rounding of integrals, at points with `weights` and `largest` (G,)."""
        sizes = np.empty((-(-vectors.shape[-1] // CHUNK), 2, vectors.shape[1]))
        measure(vectors, weights, largest, sizes)
        return sizes

    def kept(self, coords: np.ndarray, sizes: np.ndarray, room: np.ndarray) -> tuple[Kept, int] | None:
        """Store nu at grid points (G, 3) in `room`, as precise as `sizes` require; with the bytes used, or None."""
        shape, ranges = (len(sizes), len(self.omegas), len(self.pairs.shells)), len(self.omegas)
        integrals = Kept(
            np.empty(shape, np.uint8),
            np.empty(shape, np.float32),
            np.empty(len(sizes), np.int64),
            room.view(np.int8),
            room.view(np.int16),
            room.view(np.float32),
            sizes,
        )
        double = self._tables(np.float64), workspace(self.pairs, ranges)
        single = self._tables(np.float32), workspace(self.pairs, ranges, np.float32)
        end = keep(padded(coords.T), np.array(self.omegas), self.pairs, double, single, integrals)
        return None if end < 0 else (integrals, end)

    def contract_kept(self, kept: Kept, density_orbitals: np.ndarray, single: bool = False) -> np.ndarray:
        """F (W, S, n, G) from E (S, n, G) and the integrals `kept` at the same points; `single` precision."""
        dtype = np.float32 if single else np.float64
        vectors = padded(density_orbitals)
        result = np.empty((len(self.omegas), *vectors.shape))

        def work(first: int, last: int) -> None:
            values = workspace(self.pairs, len(self.omegas), dtype).values
            own = near(len(self.omegas), vectors, dtype)
            contract_kept(first, last, self.pairs, kept, values, own, vectors, result)

        each_range(work, len(kept.starts))
        return result[..., : density_orbitals.shape[-1]]

    def contract(
        self,
        coords: np.ndarray,
        density_orbitals: np.ndarray,
        importance: np.ndarray | None = None,
        threshold: float = 0.0,
    ) -> np.ndarray:
        """F (W, S, n, G) for the W omegas from E (S, n, G) at grid points (G, 3).

        Integrals are left out if their product with E and the `importance` (G,) of a point is below `threshold`.
        """
        vectors, points = padded(density_orbitals), padded(coords.T)
        count, ranges = coords.shape[0], len(self.omegas)
        result = np.empty((ranges, *vectors.shape))
        weights = padded(np.ones(count) if importance is None else importance)

        def work(first: int, last: int) -> None:
            own = self._tables(np.float64), workspace(self.pairs, ranges), near(ranges, vectors)
            contract_direct(
                first, last, points, np.array(self.omegas), self.pairs, *own, weights, threshold, vectors, result
            )

        each_range(work, points.shape[1] // CHUNK)
        return result[..., :count]

    def _tables(self, dtype: Any) -> Tables:
        return tables(int(self.pairs.shells[:, 4].max()), dtype)


def padded(values: np.ndarray) -> np.ndarray:
    """Pad the last axis with its last value to a multiple of CHUNK."""
    missing = -values.shape[-1] % CHUNK
    if missing == 0:
        return np.ascontiguousarray(values)
    return np.concatenate([values, np.repeat(values[..., -1:], missing, axis=-1)], axis=-1)
