"""Products of two basis functions as sums of Hermite Gaussians, with their derivatives by the distance of the centres.

With P = (a B + b D) / p and X = B - D, d/dB = (a/p) d/dP + d/dX and d/dD = (b/p) d/dP - d/dX; dC/dX follows from
products of one higher and one lower power (Helgaker, Jorgensen and Olsen, Molecular Electronic-Structure Theory (2000),
sec. 9.5).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from pyscf import gto

from fusion.functionals.shell_pairs import (
    NEGLIGIBLE,
    expand_axis,
    hermite_powers,
    hermite_products,
    largest_potential,
    shell,
)


class PairGradients(NamedTuple):
    """The pairs of shells, first not before second, of which anything is left; compiled code reads these arrays."""

    shells: np.ndarray
    """(N, 7): first function and number of functions of either shell, order of the Hermite functions, both centres."""
    primitives: np.ndarray
    """(N + 1,): first pair of primitives of each."""
    gaussians: np.ndarray
    """(P, 5): exponent p (bohr^-2), centre P (bohr) and a / p of each pair of primitives."""
    offsets: np.ndarray
    """(P,): where its coefficients begin."""
    coefficients: np.ndarray
    """C, dC/dX_x, dC/dX_y, dC/dX_z times 2 pi / p: (4, functions, Hermite functions) of each pair of primitives."""
    bounds: np.ndarray
    """(N,): an estimate from above of the potential (hartree) of the pair's products anywhere."""
    raised: np.ndarray
    """(3, H): the Hermite function one higher along x, y, z."""


def pair_gradients(mol: gto.Mole) -> PairGradients:
    """The pairs of shells of a molecule's basis, spherical or Cartesian."""
    first = mol.ao_loc_nr()
    shells = [shell(mol, index) for index in range(mol.nbas)]
    found: list[tuple[int, ...]] = []
    counts, bounds, gaussians, matrices = [], [], [], []
    for i, one in enumerate(shells):
        for j, two in enumerate(shells[: i + 1]):
            hermite = hermite_powers(one.momentum + two.momentum)
            space = len(one.exponents) * len(two.exponents)
            functions = (first[i + 1] - first[i]) * (first[j + 1] - first[j])
            gaussian, matrix = np.empty((space, 5)), np.empty((space, 4, functions, len(hermite)))
            kept, bound = _expand(one, two, hermite, gaussian, matrix)
            if kept:
                sizes = (first[i], first[i + 1] - first[i], first[j], first[j + 1] - first[j])
                found.append((*sizes, hermite[-1].sum(), mol.bas_atom(i), mol.bas_atom(j)))
                counts.append(kept)
                bounds.append(bound)
                gaussians.append(gaussian[:kept])
                matrices.append(matrix[:kept].reshape(kept, -1))
    lengths = np.concatenate([np.full(len(matrix), matrix.shape[1]) for matrix in matrices])
    pairs = np.array(found)
    return PairGradients(
        shells=pairs,
        primitives=np.concatenate([[0], np.cumsum(counts)]),
        gaussians=np.concatenate(gaussians),
        offsets=np.concatenate([[0], np.cumsum(lengths)[:-1]]),
        coefficients=np.concatenate([matrix.ravel() for matrix in matrices]),
        bounds=np.array(bounds),
        raised=_raised(int(pairs[:, 4].max())),
    )


def _raised(order: int) -> np.ndarray:
    place = {tuple(power): index for index, power in enumerate(hermite_powers(order + 1).tolist())}
    steps = np.eye(3, dtype=int)
    return np.array([[place[tuple(power)] for power in (hermite_powers(order) + step).tolist()] for step in steps])


@njit(nogil=True, cache=True, error_model="numpy")
def _expand(one: Any, two: Any, hermite: np.ndarray, gaussians: np.ndarray, matrices: np.ndarray) -> Any:
    """Fill exponents, centres and coefficients of two shells' primitives; how many pairs count, and their bound."""
    order = one.momentum + two.momentum
    axes = np.empty((3, one.momentum + 2, two.momentum + 1, order + 2))
    slopes = np.empty((3, one.momentum + 1, two.momentum + 1, order + 1))
    kept, bound = 0, 0.0
    for i, a in enumerate(one.exponents):
        for j, b in enumerate(two.exponents):
            p = a + b
            factor = 2.0 * np.pi / p * np.exp(-a * b / p * np.sum((one.centre - two.centre) ** 2))
            largest = np.abs(one.contractions[i]).max() * np.abs(two.contractions[j]).max()
            if factor * largest < 1e-6 * NEGLIGIBLE:
                continue
            for x in range(3):
                expand_axis(one.momentum + 1, two.momentum, a, b, one.centre[x] - two.centre[x], axes[x])
                _slope(a, p, axes[x], slopes[x])
            products = np.empty((4, len(one.transformation), len(two.transformation), len(hermite)))
            products[0] = hermite_products(one, two, hermite, axes)
            for x in range(3):
                mixed = axes[:, : one.momentum + 1, :, : order + 1].copy()
                mixed[x] = slopes[x]
                products[x + 1] = hermite_products(one, two, hermite, mixed)
            scales = np.array([factor * np.sqrt(2.0 * p) ** power.sum() for power in hermite])
            estimate = largest * largest_potential(products[0], scales)
            if estimate < NEGLIGIBLE:
                continue
            bound += estimate
            gaussians[kept, 0] = p
            gaussians[kept, 1:4] = (a * one.centre + b * two.centre) / p
            gaussians[kept, 4] = a / p
            for part in range(4):
                row = 0
                for c in one.contractions[i]:
                    for f in range(products.shape[1]):
                        for d in two.contractions[j]:
                            for g in range(products.shape[2]):
                                matrices[kept, part, row] = factor * c * d * products[part, f, g]
                                row += 1
            kept += 1
    return kept, bound


@njit(nogil=True, cache=True, error_model="numpy")
def _slope(a: float, p: float, axis: np.ndarray, found: np.ndarray) -> None:
    """d E_t^ij / dX of one axis: 2 a E_t^i+1,j - i E_t^i-1,j - (a/p) E_t-1^ij."""
    for i in range(found.shape[0]):
        for j in range(found.shape[1]):
            for t in range(found.shape[2]):
                value = 2.0 * a * axis[i + 1, j, t]
                if i > 0:
                    value -= i * axis[i - 1, j, t]
                if t > 0:
                    value -= a / p * axis[i, j, t - 1]
                found[i, j, t] = value
