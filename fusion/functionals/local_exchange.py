"""Local Hartree-Fock exchange on a grid: integrals over one electron's position, analytic, contracted with orbitals.

    nu_bd(r; omega) = int chi_b(r') erf(omega |r - r'|) / |r - r'| chi_d(r') dr'          (omega = 0: 1 / |r - r'|)
    F_b(r) = sum_d nu_bd(r) E_d(r),    E_d(r) = sum_a D_da chi_a(r),    e_x(r) = -1/2 sum_b E_b(r) F_b(r)

Kirkpatrick et al., Science 374, 1385 (2021), supplement, sec. 1.3. nu is made for a few points at a time and used up
(semi-numerical exchange: Neese et al., Chem. Phys. 356, 98 (2009)), or kept in single precision where there is memory.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from pyscf import gto

from fusion.functionals.charge_integrals import (
    CHUNK,
    Tables,
    contract_direct,
    contract_stored,
    fill,
    near,
    tables,
    workspace,
)
from fusion.functionals.shell_pairs import ShellPairs, shell_pairs
from fusion.functionals.threads import each_range


class LocalExchange:
    """The integrals of a molecule's basis for several range separations `omegas` (1/bohr)."""

    def __init__(self, mol: gto.Mole, omegas: tuple[float, ...]) -> None:
        self.mol, self.omegas = mol, omegas

    @cached_property
    def pairs(self) -> ShellPairs:
        """The pairs of shells."""
        return shell_pairs(self.mol)

    @property
    def stored_bytes(self) -> int:
        """Memory for nu at one grid point, all range separations."""
        return 4 * len(self.omegas) * int(self.pairs.rows[-1])

    def room(self, points: int) -> np.ndarray:
        """Space for the `integrals` of so many points, (chunks, W, pairs of functions, CHUNK) in single precision."""
        return np.empty((-(-points // CHUNK), len(self.omegas), int(self.pairs.rows[-1]), CHUNK), dtype=np.float32)

    def integrals(self, coords: np.ndarray, found: np.ndarray) -> None:
        """nu at grid points (G, 3), into `room` for them."""
        points, omegas = _padded(coords.T), np.array(self.omegas)

        def work(first: int, last: int) -> None:
            own = workspace(self.pairs, len(omegas))
            fill(first, last, points, omegas, self.pairs, self._tables, own, found)

        each_range(work, points.shape[1] // CHUNK)

    def contract(
        self,
        coords: np.ndarray,
        density_orbitals: np.ndarray,
        stored: np.ndarray | None = None,
        importance: np.ndarray | None = None,
        threshold: float = 0.0,
    ) -> np.ndarray:
        """F (W, S, n, G) for the W omegas from E (S, n, G) at grid points (G, 3).

        With the `stored` integrals of these points, or else all that are above `threshold` when multiplied by E and by
        the `importance` (G,) of a point.
        """
        vectors = _padded(density_orbitals)
        count = coords.shape[0]
        ranges = len(self.omegas)
        found = np.empty((ranges, *vectors.shape))
        if stored is not None:

            def work(first: int, last: int) -> None:
                contract_stored(first, last, self.pairs, stored, near(ranges, vectors), vectors, found)

            each_range(work, len(stored))
            return found[..., :count]
        points, omegas = _padded(coords.T), np.array(self.omegas)
        weights = _padded(np.ones(count) if importance is None else importance)

        def direct(first: int, last: int) -> None:
            own = workspace(self.pairs, ranges), near(ranges, vectors)
            contract_direct(
                first, last, points, omegas, self.pairs, self._tables, *own, weights, threshold, vectors, found
            )

        each_range(direct, points.shape[1] // CHUNK)
        return found[..., :count]

    @property
    def _tables(self) -> Tables:
        return tables(int(self.pairs.shells[:, 4].max()))


def _padded(values: np.ndarray) -> np.ndarray:
    """The last axis filled with its last value to a multiple of CHUNK."""
    missing = -values.shape[-1] % CHUNK
    if missing == 0:
        return np.ascontiguousarray(values)
    return np.concatenate([values, np.repeat(values[..., -1:], missing, axis=-1)], axis=-1)
