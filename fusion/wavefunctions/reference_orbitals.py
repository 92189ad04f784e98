"""Orbitals of a conventional wavefunction in Slater functions, with the exact cusps at the nuclei.

They are the start of a learned wavefunction.

Gaussians have no cusp at a nucleus and the wrong decay far from it, so that the local energy of a Gaussian orbital
diverges. Each orbital is therefore refitted, nucleus by nucleus, with radial functions

    g_lm(r) = sum_j c_lmj exp(-zeta_j r),      phi(r) = sum_A sum_lm S_lm(r - R_A) g^A_lm(|r - R_A|)

(S: solid harmonics; zeta: even-tempered), by least squares over the volume under the linear constraint

    g_00'(0) S_00 = -Z_A phi(R_A),             g_lm'(0) = -Z_A / (l + 1) g_lm(0) for l > 0,

Kato's cusp conditions (Kato 1957; Pack & Byers Brown 1966).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn


class OrbitalReference(Protocol):
    """Determinants of orbitals that a trunk mixes; an ``nn.Module``.

    ``vector`` (B, N, M, 3) and ``distance`` (B, N, M) point from the nuclei to the electrons, bohr.
    """

    description: str
    """The conventional wavefunction that they come from."""

    spins: tuple[int, ...]
    """n_s, the number of electrons of each spin that has any."""

    mixed: tuple[slice, ...]
    """The orbitals of each of these spins that are mixed."""

    strings: Sequence[np.ndarray]
    """Their occupied orbitals, (S_s, n_s) for each of these spins, as ``Configurations`` takes them."""

    weights: np.ndarray
    """Coefficients (S_up, S_down) of the products of strings."""

    def __call__(self, vector: Tensor, distance: Tensor) -> Tensor:
        """All orbitals (B, N, O) at all electrons."""
        ...

    def jet(self, vector: Tensor, distance: Tensor) -> Tensor:
        """Jets (B, 5, N, O): three derivatives with respect to the electron, Laplacian, value."""
        ...


class ReferenceOrbitals(nn.Module):
    """Determinants of orbitals in Slater functions around the nuclei, constant during optimisation.

    Exponents, coefficients and occupations are part of the checkpoint: a resumed run keeps its orbitals. Values are
    computed in float64 and returned in the dtype of the distances.
    """

    description = "given orbitals"
    """The conventional wavefunction that they come from."""

    exponent_bits: Tensor
    coefficient_bits: Tensor
    momenta: Tensor

    def __init__(
        self,
        exponents: np.ndarray,
        coefficients: np.ndarray,
        strings: Sequence[np.ndarray],
        weights: np.ndarray,
        mixed: Sequence[slice] | None = None,
    ) -> None:
        """Take exponents (M, J) and coefficients (M, J, monomials, orbitals) of all orbitals.

        The monomials are 1, x, y, z, xx, xy, xz, yy, yz, zz; their combinations must be harmonic. `strings` and
        `weights` are the expansion of ``Configurations``, `mixed` the orbitals of each spin that a trunk mixes and
        whose numbers are in the strings, by default all.
        """
        super().__init__()
        self.strings, self.weights = strings, weights
        self.spins = tuple(own.shape[1] for own in strings)
        # As integers, numbers stay in double precision when the module is converted to float32: coefficients cancel.
        for name, values in (("exponent", exponents), ("coefficient", coefficients)):
            self.register_buffer(f"{name}_bits", torch.tensor(values, dtype=torch.float64).view(torch.int64))
        self.register_buffer("momenta", torch.tensor(MOMENTA), persistent=False)
        self.mixed = tuple(mixed or [slice(0, coefficients.shape[-1])] * len(strings))

    @property
    def exponents(self) -> Tensor:
        """Exponents (M, J), 1/bohr, float64."""
        return self.exponent_bits.view(torch.float64)

    @property
    def coefficients(self) -> Tensor:
        """Coefficients (M, J, monomials, orbitals), float64."""
        return self.coefficient_bits.view(torch.float64)

    def forward(self, vector: Tensor, distance: Tensor) -> Tensor:
        """All orbitals (B, N, O) at all electrons.

        ``vector`` (B, N, M, 3) and ``distance`` (B, N, M) point from the nuclei to the electrons, bohr.
        """
        decay = torch.exp(-self.exponents * distance.double().unsqueeze(-1))
        radial = torch.einsum("bnaj,ajmo->bnamo", decay, self.coefficients)
        return torch.einsum("bnam,bnamo->bno", _monomials(vector.double()), radial).to(vector.dtype)

    def jet(self, vector: Tensor, distance: Tensor) -> Tensor:
        """Jets (B, 5, N, O): three derivatives with respect to the electron, Laplacian, value.

        For a harmonic polynomial S of degree l, lap(S g(r)) = S [g'' + (2 l + 2) g' / r].
        """
        x, r = vector.double(), distance.double().unsqueeze(-1)
        decay = torch.exp(-self.exponents * r)
        derivatives = torch.stack((decay, -self.exponents * decay, self.exponents**2 * decay))
        g, g1, g2 = torch.einsum("tbnaj,ajmo->tbnamo", derivatives, self.coefficients)
        angular = _monomials(x)
        slope = torch.einsum("bnam,bnamo->bnao", angular, g1)
        gradient = torch.einsum("bnac,bnao->bcno", x / r, slope)
        gradient += torch.einsum("bnacm,bnamo->bcno", _monomial_gradients(x), g)
        curvature = g2 + ((2 * self.momenta + 2) / r).unsqueeze(-1) * g1
        laplacian = torch.einsum("bnam,bnamo->bno", angular, curvature)
        value = torch.einsum("bnam,bnamo->bno", angular, g)
        return torch.cat((gradient, laplacian.unsqueeze(1), value.unsqueeze(1)), dim=1).to(vector.dtype)


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
