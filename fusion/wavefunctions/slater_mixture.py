"""Mixtures of Slater densities around the nuclei: positions drawn exactly, from a density known exactly.

They approximate the electron density of a mean field for importance sampling. The density of the mean field itself can
only be sampled by a Markov chain, whose walkers would need an equilibration, a place in the checkpoint and errors for
their correlation. A mixture costs a factor of about 1.1 in variance instead, and its exponential tails stay above the
density of any wavefunction, where those of Gaussians would not.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

WIDE, WIDE_SHARE = 0.5, 0.1
"""Exponent (1/bohr) and share of the widest densities, which decay like that of an electron bound by 0.03 hartree."""

_CHUNK = 10_000  # number of points at a time, for the memory
_RATIO = 1.5  # of successive exponents
_SMALLEST = 0.8  # exponent of the fit, 1/bohr
_POWERS = (0, 2)
_FLOOR = 1e-4  # e/bohr^3; the fit need not follow smaller densities


class SlaterMixture(nn.Module):
    """p(r) = sum_k w_k a_k^(m_k + 3) / (4 pi (m_k + 2)!) s_k^m_k exp(-a_k s_k), s_k = |r - R_k|, m_k = 0 or 2.

    Args:
        centres: R_k (K, 3), bohr.
        exponents: a_k (K,), 1/bohr.
        powers: m_k (K,).
        weights: w_k (K,), not negative; scaled to a sum of 1.
    """

    centres: Tensor
    exponents: Tensor
    powers: Tensor
    weights: Tensor

    def __init__(self, centres: np.ndarray, exponents: np.ndarray, powers: np.ndarray, weights: np.ndarray) -> None:
        super().__init__()
        values = {"centres": centres, "exponents": exponents, "powers": powers, "weights": weights / weights.sum()}
        for name, value in values.items():
            self.register_buffer(name, torch.tensor(value, dtype=torch.float64), persistent=False)

    def forward(self, points: Tensor) -> Tensor:
        """Density p (n,), bohr^-3, at points (n, 3)."""
        return torch.cat([self.components(part) @ self.weights for part in points.split(_CHUNK)])

    def components(self, points: Tensor) -> Tensor:
        """Densities (n, K) of all components, each with the integral 1, at points (n, 3)."""
        a, m = self.exponents, self.powers
        s = torch.cdist(points, self.centres, compute_mode="donot_use_mm_for_euclid_dist")
        return a ** (m + 3) / (4 * math.pi * torch.exp(torch.lgamma(m + 3))) * s**m * torch.exp(-a * s)

    def sample(self, number: int, stream: torch.Generator) -> Tensor:
        """Draw positions (number, 3) from p."""
        like: dict[str, Any] = {"generator": stream, "dtype": torch.float64, "device": self.weights.device}
        uniform = torch.rand(number, **like)
        chosen = torch.searchsorted(self.weights.cumsum(0), uniform).clamp(max=len(self.weights) - 1)
        # A sum of m + 3 exponential variables has the radial distribution s^(m + 2) exp(-s).
        exponential = -torch.log1p(-torch.rand(number, 5, **like))
        first = exponential[:, :3].sum(-1)
        radius = torch.where(self.powers[chosen] == 0, first, first + exponential[:, 3:].sum(-1))
        direction = torch.nn.functional.normalize(torch.randn(number, 3, **like), dim=-1)
        return self.centres[chosen] + (radius / self.exponents[chosen]).unsqueeze(-1) * direction


def fit_density(mol: Any, matrix: np.ndarray) -> SlaterMixture:
    """Fit the density of a density matrix (nao, nao) of PySCF's molecule, and add `WIDE_SHARE` of wide densities.

    The least squares, with weights that are not negative, minimise the integral of (n - q)^2 / n: the variance of n / q
    for positions drawn from n.
    """
    from pyscf import dft
    from scipy.optimize import nnls

    nuclei, charges = mol.atom_coords(), mol.atom_charges()
    tight = [
        (position, exponent, power)
        for position, charge in zip(nuclei, charges, strict=True)
        for exponent in _exponents(float(charge))
        for power in _POWERS
    ]
    wide = [(position, WIDE, 0) for position in nuclei]
    centres, exponents, powers = (np.array(column) for column in zip(*tight, *wide, strict=True))
    grid = dft.gen_grid.Grids(mol)
    grid.level = 0
    grid.build()
    orbitals = mol.eval_gto("GTOval", grid.coords)
    density = np.einsum("gp,pq,gq->g", orbitals, matrix, orbitals)
    rows = np.sqrt(np.abs(grid.weights) / (density + _FLOOR))
    mixture = SlaterMixture(centres, exponents, powers, np.ones(len(powers)))
    functions = np.asarray(mixture.components(torch.tensor(grid.coords)))[:, : len(tight)]
    # The triangular factor has the residuals of all points of the grid.
    factor = np.asarray(np.linalg.qr(rows[:, None] * np.column_stack((functions, density)), mode="r"))
    weights = nnls(factor[:, :-1], factor[:, -1])[0]
    shares = (1 - WIDE_SHARE) * weights / weights.sum(), np.full(len(wide), WIDE_SHARE / len(wide))
    return SlaterMixture(centres, exponents, powers, np.concatenate(shares))


def _exponents(charge: float) -> np.ndarray:
    """Exponents of the densities around a nucleus; its 1s orbital has a density that decays like exp(-2 Z r)."""
    largest = max(2.2 * charge, 2.0)
    return np.geomspace(_SMALLEST, largest, 1 + math.ceil(math.log(largest / _SMALLEST) / math.log(_RATIO)))
