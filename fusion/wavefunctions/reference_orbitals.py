"""Hartree-Fock orbitals in Slater functions, with the exact cusps at the nuclei: the start of a wavefunction.

Gaussians have no cusp at a nucleus and the wrong decay far from it, so that the local energy of a Gaussian orbital
diverges. Each orbital is therefore refitted, nucleus by nucleus, with radial functions

    g_lm(r) = sum_j c_lmj exp(-zeta_j r),      phi(r) = sum_A sum_lm S_lm(r - R_A) g^A_lm(|r - R_A|)

(S: solid harmonics; zeta: even-tempered), by least squares over the volume under the linear constraint

    g_00'(0) S_00 = -Z_A phi(R_A),             g_lm'(0) = -Z_A / (l + 1) g_lm(0) for l > 0,

Kato's cusp conditions (Kato 1957; Pack & Byers Brown 1966).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from fusion.chemistry.system import System


class ReferenceOrbitals(nn.Module):
    """Occupied orbitals of both spins in Slater functions around the nuclei, constant during optimisation.

    Exponents and coefficients are part of the checkpoint: a resumed run keeps its orbitals. Values are computed in
    float64 and returned in the dtype of the distances.
    """

    exponent_bits: Tensor
    coefficient_bits: Tensor
    momenta: Tensor

    def __init__(self, exponents: np.ndarray, coefficients: np.ndarray, spins: Sequence[int]) -> None:
        """Take exponents (M, J) and coefficients (M, J, monomials, orbitals), the orbitals of one spin after another.

        The monomials are 1, x, y, z, xx, xy, xz, yy, yz, zz; their combinations must be harmonic. `spins` are the
        numbers of orbitals of every occupied spin.
        """
        super().__init__()
        self.spins = tuple(spins)
        # As integers they stay in double precision when the module is converted to float32: large coefficients cancel.
        self.register_buffer("exponent_bits", torch.tensor(exponents, dtype=torch.float64).view(torch.int64))
        self.register_buffer("coefficient_bits", torch.tensor(coefficients, dtype=torch.float64).view(torch.int64))
        self.register_buffer("momenta", torch.tensor(MOMENTA), persistent=False)

    @property
    def exponents(self) -> Tensor:
        """Exponents (M, J), 1/bohr, float64."""
        return self.exponent_bits.view(torch.float64)

    @property
    def coefficients(self) -> Tensor:
        """Coefficients (M, J, monomials, orbitals), float64."""
        return self.coefficient_bits.view(torch.float64)

    def forward(self, vector: Tensor, distance: Tensor) -> list[Tensor]:
        """Orbitals (B, n_s, n_s) of every spin.

        ``vector`` (B, N, M, 3) and ``distance`` (B, N, M) point from the nuclei to the electrons, bohr.
        """
        orbitals = []
        for x, r, coefficients in self._by_spin(vector, distance):
            radial = torch.einsum("bnaj,ajmo->bnamo", torch.exp(-self.exponents * r.unsqueeze(-1)), coefficients)
            orbitals.append(torch.einsum("bnam,bnamo->bno", _monomials(x), radial).to(vector.dtype))
        return orbitals

    def jet(self, vector: Tensor, distance: Tensor) -> list[Tensor]:
        """Jets (B, 5, n_s, n_s) of every spin: three derivatives with respect to the electron, Laplacian, value.

        For a harmonic polynomial S of degree l, lap(S g(r)) = S [g'' + (2 l + 2) g' / r].
        """
        jets = []
        for x, r, coefficients in self._by_spin(vector, distance):
            decay = torch.exp(-self.exponents * r.unsqueeze(-1))
            derivatives = torch.stack((decay, -self.exponents * decay, self.exponents**2 * decay))
            g, g1, g2 = torch.einsum("tbnaj,ajmo->tbnamo", derivatives, coefficients)
            angular = _monomials(x)
            unit = x / r.unsqueeze(-1)
            slope = torch.einsum("bnam,bnamo->bnao", angular, g1)
            gradient = torch.einsum("bnac,bnao->bcno", unit, slope)
            gradient += torch.einsum("bnacm,bnamo->bcno", _monomial_gradients(x), g)
            weight = angular * (2 * self.momenta + 2) / r.unsqueeze(-1)
            laplacian = torch.einsum("bnam,bnamo->bno", angular, g2) + torch.einsum("bnam,bnamo->bno", weight, g1)
            value = torch.einsum("bnam,bnamo->bno", angular, g)
            jets.append(torch.cat((gradient, laplacian.unsqueeze(1), value.unsqueeze(1)), dim=1).to(vector.dtype))
        return jets

    def _by_spin(self, vector: Tensor, distance: Tensor) -> zip[tuple[Tensor, Tensor, Tensor]]:
        x, r = vector.double().split(self.spins, dim=1), distance.double().split(self.spins, dim=1)
        return zip(x, r, self.coefficients.split(self.spins, dim=-1), strict=True)


@lru_cache(maxsize=8)
def _fitted(system: System) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    from fusion.wavefunctions.slater_fit import fit_occupied_orbitals

    return fit_occupied_orbitals(system)


def hartree_fock_orbitals(system: System) -> ReferenceOrbitals:
    """Build the Hartree-Fock orbitals of ``system``; raises the errors of ``hartree_fock``."""
    return ReferenceOrbitals(*_fitted(system))


MOMENTA = [0, 1, 1, 1, 2, 2, 2, 2, 2, 2]
"""Degree of every monomial of `_monomials`."""


def _monomials(vector: Tensor) -> Tensor:
    """1, x, y, z, xx, xy, xz, yy, yz, zz (..., 10) of vectors (..., 3), PySCF's order of Cartesian functions."""
    x, y, z = vector.unbind(-1)
    return torch.stack((torch.ones_like(x), x, y, z, x * x, x * y, x * z, y * y, y * z, z * z), dim=-1)


def _monomial_gradients(vector: Tensor) -> Tensor:
    """Derivatives (..., 3, 10) of the monomials of vectors (..., 3)."""
    x, y, z = vector.unbind(-1)
    o, i = torch.zeros_like(x), torch.ones_like(x)
    by_x = torch.stack((o, i, o, o, 2 * x, y, z, o, o, o), dim=-1)
    by_y = torch.stack((o, o, i, o, o, x, o, 2 * y, z, o), dim=-1)
    by_z = torch.stack((o, o, o, i, o, o, x, o, y, 2 * z), dim=-1)
    return torch.stack((by_x, by_y, by_z), dim=-2)
