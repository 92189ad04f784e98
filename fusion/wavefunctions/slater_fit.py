"""Least-squares fit of Gaussian orbitals with Slater functions that have the cusps at the nuclei."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fusion.chemistry.system import System

MAX_MOMENTUM = 2
"""Largest angular momentum; occupied orbitals of the first four periods hardly use higher ones."""

NUMBER, SMALLEST = 12, 0.3
"""Number of even-tempered exponents, and the smallest of them, 1/bohr."""

LARGEST = 1.2, 1.3
"""The largest exponent for angular momentum l is 1.2 Z / sqrt(l + 1) + 1.3.

Functions that decay much faster than an orbital follow the Gaussians at a nucleus, where these have no cusp; the
orbital's local energy is then wrong by up to Z^2 there."""

RIDGE = 1e-10
"""Regularisation of the fit, relative to the norm of each radial function."""

CUSP_ITERATIONS = 4
"""Repetitions of the cusp condition, which contains the tails of the orbitals from the other nuclei."""

_MONOMIALS = (slice(0, 1), slice(1, 4), slice(4, 10))
"""Cartesian monomials of each angular momentum."""


def fit_orbitals(
    system: System, mol: Any, orbitals: np.ndarray, smallest: float = SMALLEST
) -> tuple[np.ndarray, np.ndarray]:
    """Fit orbitals (nao, n) of PySCF's molecule in Slater functions with momenta up to MAX_MOMENTUM.

    `smallest` is their smallest exponent, 1/bohr.

    Returns:
        exponents (M, J), and coefficients (M, J, monomials, n) as ``ReferenceOrbitals`` needs them.
    """
    with_core = [core.symbol for core in system.cores]
    fits = [
        [
            _Radial(0 if symbol in with_core else charge, charge, momentum, smallest)
            for momentum in range(MAX_MOMENTUM + 1)
        ]
        for symbol, charge in zip(system.symbols, system.charges, strict=True)
    ]
    coefficients = np.zeros((len(fits), NUMBER, _MONOMIALS[-1].stop, orbitals.shape[1]))
    for shell in _shells(mol):
        radial = fits[shell.centre][shell.momentum].expand(shell)
        angular = shell.harmonics @ orbitals[shell.rows]
        coefficients[shell.centre, :, _MONOMIALS[shell.momentum]] += np.einsum("j,mo->jmo", radial, angular)
    exponents = np.array([by_momentum[0].exponents for by_momentum in fits])
    for own, by_momentum in zip(coefficients, fits, strict=True):
        for monomials, fit in zip(_MONOMIALS[1:], by_momentum[1:], strict=True):
            own[:, monomials] = fit.with_cusp(own[:, monomials], 0.0)
    for _ in range(CUSP_ITERATIONS):
        for a, by_momentum in enumerate(fits):
            others = _values_from_others(a, system.positions, exponents, coefficients)
            coefficients[a, :, 0] = by_momentum[0].with_cusp(coefficients[a, :, 0], others)
    return exponents, coefficients


class _Shell(NamedTuple):
    """One contracted shell: its nucleus, angular momentum, Gaussians, and the rows of its functions in the basis."""

    centre: int
    momentum: int
    exponents: np.ndarray
    contraction: np.ndarray
    harmonics: np.ndarray
    rows: slice


def _shells(mol: Any) -> list[_Shell]:
    from pyscf import gto

    shells, row = [], 0
    for number in range(mol.nbas):
        momentum, exponents = int(mol.bas_angular(number)), mol.bas_exp(number)
        harmonics = np.asarray(gto.cart2sph(momentum))
        for column in (mol.bas_ctr_coeff(number) * gto.gto_norm(momentum, exponents)[:, None]).T:
            rows = slice(row, row + harmonics.shape[1])
            shells.append(_Shell(int(mol.bas_atom(number)), momentum, exponents, column, harmonics, rows))
            row = rows.stop
    return [shell for shell in shells if shell.momentum <= MAX_MOMENTUM]


class _Radial:
    """Slater functions r^l exp(-zeta_j r) of one nucleus and angular momentum, and fits in them.

    `cusp` is the charge in the cusp condition: zero with an effective core potential.
    """

    def __init__(self, cusp: float, charge: float, momentum: int, smallest: float) -> None:
        self.cusp, self.momentum = cusp, momentum
        self.exponents = np.geomspace(smallest, LARGEST[0] * charge + LARGEST[1], NUMBER)
        self.r = np.geomspace(1e-5, 40.0, 3000)
        self.weight = np.gradient(self.r) * self.r**2
        functions = self.r[:, None] ** momentum * np.exp(-np.outer(self.r, self.exponents))
        self.functions = functions
        overlap = functions.T @ (self.weight[:, None] * functions)
        scale = 1 / np.sqrt(overlap.diagonal())
        scaled = scale[:, None] * overlap * scale + RIDGE * np.eye(NUMBER)
        own = int((self.exponents <= LARGEST[0] * charge / (momentum + 1) ** 0.5 + LARGEST[1] + 1e-9).sum())
        self.inverse = np.zeros_like(scaled)
        self.inverse[:own, :own] = np.linalg.inv(scaled[:own, :own])
        self.inverse *= scale[:, None] * scale

    def expand(self, shell: _Shell) -> np.ndarray:
        """Coefficients (J,) of a Gaussian shell's radial function."""
        gaussians = np.exp(-np.outer(self.r**2, shell.exponents)) @ shell.contraction
        return self.inverse @ (self.functions.T @ (self.weight * self.r**self.momentum * gaussians))

    def with_cusp(self, coefficients: np.ndarray, others: np.ndarray | float) -> np.ndarray:
        """Nearest coefficients (J, ...) with g'(0) = -cusp / (l + 1) (g(0) + others), in the norm of the fit."""
        row = self.cusp / (self.momentum + 1) - self.exponents
        excess = np.tensordot(row, coefficients, 1) + self.cusp / (self.momentum + 1) * others
        change = self.inverse @ row / (row @ self.inverse @ row)
        return coefficients - np.multiply.outer(change, excess)


def _values_from_others(a: int, positions: np.ndarray, exponents: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Values (orbitals,) at nucleus `a` of the functions at all other nuclei."""
    vectors = np.delete(positions[a] - positions, a, axis=0)
    x, y, z = vectors.T
    monomials = np.stack((np.ones_like(x), x, y, z, x * x, x * y, x * z, y * y, y * z, z * z))[: coefficients.shape[2]]
    decay = np.exp(-np.linalg.norm(vectors, axis=1)[:, None] * np.delete(exponents, a, axis=0))
    return np.einsum("ma,aj,ajmo->o", monomials, decay, np.delete(coefficients, a, axis=0))
