"""Rungs of the ladder of SCF convergence, and the extrapolation of Fock matrices in their cycles.

DIIS (Pulay, J. Comput. Chem. 3, 556 (1982)); damping of the first cycles; a level shift of the empty orbitals (Saunders
and Hillier, Int. J. Quantum Chem. 7, 699 (1973)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pyscf.scf import diis, hf


@dataclass(frozen=True)
class Rung:
    """One way to converge: damping, the fraction of the last Fock matrix in early cycles, and shift in hartree."""

    name: str
    damp: float = 0.0
    damped_cycles: int = 8
    shift: float = 0.0
    overlap: bool = False
    """Fill the orbitals that overlap most with the starting density, not the lowest."""


class Extrapolation(diis.SCF_DIIS):
    """PySCF's DIIS of matrices with shifted empty orbitals, after cycles with damping."""

    def __init__(self, mean_field: Any, rung: Rung) -> None:
        overlap = mean_field.get_ovlp()
        super().__init__(mean_field, mean_field.diis_file, mean_field.check_linear_dependency(overlap))
        self.space, self.rollback = mean_field.diis_space, mean_field.diis_space_rollback
        self.damp = mean_field.diis_damp
        self.rung, self.damped = rung, 0
        self.last: Any = None

    def restart(self) -> None:
        """Forget all matrices."""
        self._buffer: dict[str, Any] = {}
        self._bookkeep: list[int] = []
        self._head, self._H, self._xprev = 0, None, None

    def update(self, overlap: np.ndarray, density: Any, fock: np.ndarray, *args: Any, **kwargs: Any) -> np.ndarray:
        """Return the matrix to diagonalise, for the density matrices of a restricted object or of both spins."""
        shift = self.rung.shift
        if shift and fock.ndim == 2:
            fock = hf.level_shift(overlap, 0.5 * density, fock, shift)
        elif shift:
            pairs = zip(density, fock, strict=True)
            fock = np.stack([hf.level_shift(overlap, spin, matrix, shift) for spin, matrix in pairs])
        if self.rung.damp and self.damped < self.rung.damped_cycles:
            self.damped += 1
            self.last = fock if self.last is None else hf.damping(fock, self.last, self.rung.damp)
            return np.asarray(self.last)
        return np.asarray(super().update(overlap, density, fock, *args, **kwargs))
