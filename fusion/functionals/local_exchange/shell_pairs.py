"""Products of two basis functions as sums of Hermite Gaussians, and their derivatives by the distance of the centres.

    chi_b(r) chi_d(r) = sum_p sum_tuv C^p_bd,tuv (d/dP_x)^t (d/dP_y)^u (d/dP_z)^v exp(-p |r - P|^2)

McMurchie and Davidson, J. Comput. Phys. 26, 218 (1978); Helgaker, Jorgensen and Olsen, Molecular Electronic-Structure
Theory (2000), sec. 9.5. Every pair of primitives has its exponent p and centre P = (a B + b D) / p. With X = B - D,
d/dB = (a/p) d/dP + d/dX and d/dD = (b/p) d/dP - d/dX; dC/dX follows from products of one higher and one lower power.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from pyscf import gto

from fusion.compilation import INNER, njit

NEGLIGIBLE: Final = 1e-13
"""Limit (hartree) of the potential below which pairs of primitives are left out."""
S_FACTOR, P_FACTOR = math.sqrt(0.25 / math.pi), math.sqrt(0.75 / math.pi)


class ShellPairs(NamedTuple):
    """Non-negligible pairs of shells, the first not before the second; compiled code reads these arrays."""

    shells: np.ndarray
    """(N, 7): first function and number of functions of either shell, order L of the Hermite functions, both atoms."""
    rows: np.ndarray
    """(N + 1,): first row of each pair in a list of all pairs of functions (b, d), d fastest; last their number."""
    primitives: np.ndarray
    """(N + 1,): first pair of primitives of each pair of shells; last their number."""
    gaussians: np.ndarray
    """(P, 5): exponent p (bohr^-2), centre P (bohr) and a / p of each pair of primitives."""
    offsets: np.ndarray
    """(P,): offset of the coefficients of each pair of primitives."""
    coefficients: np.ndarray
    """C times 2 pi / p: (functions, Hermite functions) of each pair of primitives, one after the other; with
    derivatives, dC/dX_x, dC/dX_y and dC/dX_z follow each C."""
    terms: np.ndarray
    """Hermite functions with a coefficient that is not zero, of each pair of functions, one after the other."""
    ends: np.ndarray
    """(rows + 1,): zero, and the end of the `terms` of each pair of functions."""
    bounds: np.ndarray
    """(N,): upper estimate of the potential (hartree) of the pair's products at any point."""


def hermite_powers(order: int) -> np.ndarray:
    """(H, 3) powers t, u, v with t + u + v <= order, by rising sum."""
    return np.array([powers for total in range(order + 1) for powers in _powers(total)])


def shell_pairs(mol: gto.Mole, derivatives: bool = False) -> ShellPairs:
    """Pairs of shells of a molecule's basis, spherical or Cartesian, optionally with the `derivatives` dC/dX."""
    first = mol.ao_loc_nr()
    shells = [_shell(mol, index) for index in range(mol.nbas)]
    rows_: list[tuple[int, ...]] = []
    counts, bounds, gaussians, matrices, terms, lengths_of_terms = [], [], [], [], [], []
    for i, shell_b in enumerate(shells):
        for j, shell_d in enumerate(shells[: i + 1]):
            hermite = hermite_powers(shell_b.momentum + shell_d.momentum)
            space = len(shell_b.exponents) * len(shell_d.exponents)
            functions = (first[i + 1] - first[i]) * (first[j + 1] - first[j])
            gaussian = np.empty((space, 5))
            matrix = np.empty((space, 4 if derivatives else 1, functions, len(hermite)))
            primitives, bound = _expand(shell_b, shell_d, hermite, gaussian, matrix)
            if primitives:
                sizes = first[i], first[i + 1] - first[i], first[j], first[j + 1] - first[j]
                rows_.append((*sizes, hermite[-1].sum(), mol.bas_atom(i), mol.bas_atom(j)))
                counts.append(primitives)
                bounds.append(bound)
                gaussians.append(gaussian[:primitives])
                matrices.append(matrix[:primitives].reshape(primitives, -1))
                present = np.abs(matrix[:primitives, 0]).max(axis=0) > 0.0
                terms.append(np.nonzero(present)[1])
                lengths_of_terms.append(present.sum(axis=1))
    lengths = np.concatenate([np.full(len(matrix), matrix.shape[1]) for matrix in matrices])
    pairs = np.array(rows_)
    return ShellPairs(
        shells=pairs,
        rows=np.concatenate([[0], np.cumsum(pairs[:, 1] * pairs[:, 3])]),
        primitives=np.concatenate([[0], np.cumsum(counts)]),
        gaussians=np.concatenate(gaussians),
        offsets=np.concatenate([[0], np.cumsum(lengths)[:-1]]),
        coefficients=np.concatenate([matrix.ravel() for matrix in matrices]),
        terms=np.concatenate(terms),
        ends=np.concatenate([[0], np.cumsum(np.concatenate(lengths_of_terms))]),
        bounds=np.array(bounds),
    )


class _Shell(NamedTuple):
    momentum: int
    centre: np.ndarray
    exponents: np.ndarray
    contractions: np.ndarray
    """(primitives, contractions)"""
    transformation: np.ndarray
    """(functions, Cartesian powers)"""
    powers: np.ndarray
    """(Cartesian powers, 3)"""


def _shell(mol: gto.Mole, index: int) -> _Shell:
    momentum = mol.bas_angular(index)
    powers = np.array(_powers(momentum))
    if mol.cart or momentum < 2:
        transformation = {0: S_FACTOR, 1: P_FACTOR}.get(momentum, 1.0) * np.eye(len(powers))
    else:
        transformation = np.ascontiguousarray(gto.cart2sph(momentum).T)
    contractions = np.ascontiguousarray(mol._libcint_ctr_coeff(index))
    return _Shell(momentum, mol.bas_coord(index), mol.bas_exp(index), contractions, transformation, powers)


def _powers(total: int) -> list[tuple[int, int, int]]:
    return [(t, u, total - t - u) for t in range(total, -1, -1) for u in range(total - t, -1, -1)]


@njit(nogil=True, cache=True, error_model="numpy")
def _expand(shell_b: Any, shell_d: Any, hermite: np.ndarray, gaussians: np.ndarray, matrices: np.ndarray) -> Any:
    """Fill exponents, centres and coefficients of two shells' primitives; return the number of pairs and the bound."""
    parts = matrices.shape[1]
    highest = shell_b.momentum + min(parts - 1, 1)
    axes = np.empty((3, highest + 1, shell_d.momentum + 1, highest + shell_d.momentum + 1))
    scales = np.empty(len(hermite))
    primitives, bound = 0, 0.0
    for i, a in enumerate(shell_b.exponents):
        for j, b in enumerate(shell_d.exponents):
            p = a + b
            factor = 2.0 * np.pi / p * np.exp(-a * b / p * np.sum((shell_b.centre - shell_d.centre) ** 2))
            largest = np.abs(shell_b.contractions[i]).max() * np.abs(shell_d.contractions[j]).max()
            if factor * largest < 1e-6 * NEGLIGIBLE:
                continue
            for x in range(3):
                _expand_axis(highest, shell_d.momentum, a, b, shell_b.centre[x] - shell_d.centre[x], axes[x])
            products = _hermite_products(shell_b, shell_d, hermite, axes)
            for h in range(len(hermite)):
                scales[h] = factor * math.sqrt(2.0 * p) ** hermite[h].sum()
            estimate = largest * _largest_potential(products, scales)
            if estimate < NEGLIGIBLE:
                continue
            bound += estimate
            gaussians[primitives, 0], gaussians[primitives, 4] = p, a / p
            gaussians[primitives, 1:4] = (a * shell_b.centre + b * shell_d.centre) / p
            _contract(shell_b.contractions[i], shell_d.contractions[j], factor, products, matrices[primitives, 0])
            for part in range(1, parts):
                products = _hermite_products(shell_b, shell_d, hermite, _derived(axes, part - 1, a, p))
                _contract(
                    shell_b.contractions[i], shell_d.contractions[j], factor, products, matrices[primitives, part]
                )
            primitives += 1
    return primitives, bound


@njit(nogil=True, cache=True, error_model="numpy", **INNER)
def _contract(
    first: np.ndarray, second: np.ndarray, factor: float, products: np.ndarray, coefficients: np.ndarray
) -> None:
    """Compute the coefficients (functions, Hermite functions) of two primitives in the contracted functions."""
    row = 0
    for c in first:
        for f in range(products.shape[0]):
            for d in second:
                for g in range(products.shape[1]):
                    coefficients[row] = factor * c * d * products[f, g]
                    row += 1


@njit(nogil=True, cache=True, error_model="numpy", **INNER)
def _expand_axis(first: int, second: int, a: float, b: float, distance: float, expansion: np.ndarray) -> None:
    """Compute E_t^ij of one axis, (first + 1, second + 1, t), without the factor exp(-a b distance^2 / (a + b))."""
    p = a + b
    expansion[:] = 0.0
    expansion[0, 0, 0] = 1.0
    for i in range(first + 1):
        for j in range(second + 1):
            if i + j == 0:
                continue
            lower = expansion[i - 1, j] if i > 0 else expansion[i, j - 1]
            shift = -b / p * distance if i > 0 else a / p * distance
            for t in range(i + j + 1):
                value = shift * lower[t]
                if t > 0:
                    value += lower[t - 1] / (2.0 * p)
                if t + 1 < i + j:
                    value += (t + 1) * lower[t + 1]
                expansion[i, j, t] = value


@njit(nogil=True, cache=True, error_model="numpy", **INNER)
def _derived(axes: np.ndarray, x: int, a: float, p: float) -> Any:
    """E of all axes (3, i, j, t), with dE/dX along x: d E_t^ij / dX = 2 a E_t^i+1,j - i E_t^i-1,j - (a/p) E_t-1^ij."""
    derived = axes[:, :-1, :, :-1].copy()
    axis = axes[x]
    for i in range(derived.shape[1]):
        for j in range(derived.shape[2]):
            for t in range(derived.shape[3]):
                value = 2.0 * a * axis[i + 1, j, t]
                if i > 0:
                    value -= i * axis[i - 1, j, t]
                if t > 0:
                    value -= a / p * axis[i, j, t - 1]
                derived[x, i, j, t] = value
    return derived


@njit(nogil=True, cache=True, error_model="numpy", **INNER)
def _hermite_products(shell_b: Any, shell_d: Any, hermite: np.ndarray, axes: np.ndarray) -> Any:
    """Products (functions, functions, Hermite functions) of two primitives, without their common factor."""
    products = np.zeros((len(shell_b.transformation), len(shell_d.transformation), len(hermite)))
    for m in range(len(shell_b.powers)):
        for n in range(len(shell_d.powers)):
            for h in range(len(hermite)):
                value = 1.0
                for x in range(3):
                    value *= axes[x, shell_b.powers[m, x], shell_d.powers[n, x], hermite[h, x]]
                if value != 0.0:
                    for f in range(products.shape[0]):
                        for g in range(products.shape[1]):
                            products[f, g, h] += shell_b.transformation[f, m] * shell_d.transformation[g, n] * value
    return products


@njit(nogil=True, cache=True, error_model="numpy", **INNER)
def _largest_potential(products: np.ndarray, scales: np.ndarray) -> Any:
    """Upper bound of the potential of any product: derivatives of Hermite functions are below (2p)^(order/2)."""
    largest = 0.0
    for f in range(products.shape[0]):
        for g in range(products.shape[1]):
            largest = max(largest, np.sum(np.abs(products[f, g]) * scales))
    return largest
