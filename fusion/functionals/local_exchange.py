"""Local Hartree-Fock exchange on a grid: integrals over one electron's position, analytic, contracted at once.

    nu_bd(r; omega) = int chi_b(r') erf(omega |r - r'|) / |r - r'| chi_d(r') dr'          (omega = 0: 1 / |r - r'|)
    F_b(r) = sum_d nu_bd(r) E_d(r),    E_d(r) = sum_a D_da chi_a(r),    e_x(r) = -1/2 sum_b E_b(r) F_b(r)

Kirkpatrick et al., Science 374, 1385 (2021), supplement, sec. 1.3. The semi-numerical contraction is PySCF's compiled
one (Neese et al., Chem. Phys. 356, 98 (2009), as in its SGX module), so that no nu is ever stored.
"""

from __future__ import annotations

import numpy as np
from pyscf import gto
from pyscf.sgx import sgx_jk

THRESHOLD = 1e-13
"""Contributions of integrals below this are left out by PySCF's screening."""


class LocalExchange:
    """The contraction of a molecule's integrals for several range separations `omegas`."""

    def __init__(self, mol: gto.Mole, omegas: tuple[float, ...]) -> None:
        self.mol, self.omegas = mol, omegas

    def contract(self, coords: np.ndarray, density_orbitals: np.ndarray) -> np.ndarray:
        """F (W, S, n, G) for the W omegas from E (S, n, G) at grid points (G, 3)."""
        weights = np.ones(len(coords))
        vectors = np.ascontiguousarray(density_orbitals)
        found = np.empty((len(self.omegas), *vectors.shape))
        for index, omega in enumerate(self.omegas):
            with self.mol.with_range_coulomb(omega):
                contraction = sgx_jk._gen_jk_direct(self.mol, "s2", False, True, THRESHOLD)
                found[index] = contraction(self.mol, coords, None, vectors, weights)[1]
        return found
