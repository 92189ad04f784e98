"""The derivative of local Hartree-Fock exchange with respect to the centres of the basis functions in its integrals.

    -1/2 sum_bd E_b E_d d nu_bd / dR,    nu_bd = sum_p sum_tuv C^p_bd,tuv R_tuv(P - r)

With P = (a B + b D) / p and X = B - D, d/dB = (a/p) d/dP + d/dX and d/dD = (b/p) d/dP - d/dX; d R_tuv / dP_x is
R_t+1,uv, and dC/dX follows from products of one higher and one lower power (Helgaker, Jorgensen and Olsen, Molecular
Electronic-Structure Theory (2000), secs. 9.5 and 9.9). E_b E_d goes to the Hermite functions first, which are shared by
all range separations.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from pyscf import gto

from fusion.functionals.charge_integrals import (
    _INLINE,
    _OPTIONS,
    CHUNK,
    Workspace,
    _boys,
    _hermite,
    tables,
)
from fusion.functionals.local_exchange import _padded
from fusion.functionals.shell_pairs import NEGLIGIBLE, _axis, _estimate, _products, _shell, hermite_powers
from fusion.functionals.threads import each_range

THRESHOLD: Final = 1e-12
"""Pairs of shells whose share in a gradient at a point stays below this (hartree/bohr) are left out there."""


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


class Scratch(NamedTuple):
    """Arrays of one thread."""

    work: Workspace
    products: np.ndarray
    """(S, functions, CHUNK): E_b E_d."""
    density: np.ndarray
    """(CHUNK,): of one Hermite function."""
    potentials: np.ndarray
    """(S, H, CHUNK): R, times the derivatives of the energy, of all range separations."""
    forces: np.ndarray
    """(6, CHUNK): of one pair of primitives, d/dP and d/dX."""


def pair_gradients(mol: gto.Mole) -> PairGradients:
    """The pairs of shells of a molecule's basis, spherical or Cartesian."""
    first = mol.ao_loc_nr()
    shells = [_shell(mol, index) for index in range(mol.nbas)]
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
                _axis(one.momentum + 1, two.momentum, a, b, one.centre[x] - two.centre[x], axes[x])
                _slope(a, p, axes[x], slopes[x])
            products = np.empty((4, len(one.transformation), len(two.transformation), len(hermite)))
            products[0] = _products(one, two, hermite, axes)
            for x in range(3):
                mixed = axes[:, : one.momentum + 1, :, : order + 1].copy()
                mixed[x] = slopes[x]
                products[x + 1] = _products(one, two, hermite, mixed)
            scales = np.array([factor * np.sqrt(2.0 * p) ** power.sum() for power in hermite])
            estimate = largest * _estimate(products[0], scales)
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


def exchange_gradient(
    pairs: PairGradients, atoms: int, omegas: tuple[float, ...], coords: np.ndarray, smeared: np.ndarray, by: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients by the integrals of E (S, n, G) at grid points (G, 3), `by` (W, S, G) being dE_xc / de_x.

    (A, 3) with respect to the atoms, and at each point by itself (3, G) the sum over all of them.
    """
    points, vectors, factors = _padded(coords.T), _padded(smeared), _padded(by)
    factors[..., len(coords) :] = 0.0
    known = tables(int(pairs.shells[:, 4].max()) + 1)
    of_atoms, of_points = [], np.zeros((3, points.shape[1]))

    def work(first: int, last: int) -> None:
        own = np.zeros((atoms, 3))
        scratch = _scratch(pairs, len(smeared))
        _add(first, last, points, np.array(omegas), pairs, known, scratch, factors, THRESHOLD, vectors, own, of_points)
        of_atoms.append(own)

    each_range(work, points.shape[1] // CHUNK)
    return np.sum(of_atoms, axis=0), of_points[:, : len(coords)]


def _scratch(pairs: PairGradients, spins: int) -> Scratch:
    order = int(pairs.shells[:, 4].max()) + 1
    size = len(hermite_powers(order))
    functions = int((pairs.shells[:, 1] * pairs.shells[:, 3]).max())
    work = Workspace(
        np.empty((4, CHUNK)), np.empty((order + 2, CHUNK)), np.empty((order + 1, size, CHUNK)), np.empty((0, 0, CHUNK))
    )
    return Scratch(
        work, np.empty((spins, functions, CHUNK)), np.empty(CHUNK), np.empty((spins, size, CHUNK)), np.empty((6, CHUNK))
    )


@njit(**_INLINE)
def _weigh(p: float, order: int, start: int, omegas: np.ndarray, known: Any, scratch: Any, factors: np.ndarray) -> None:
    """scratch.potentials (S, H, CHUNK) of one pair of primitives from the axes P - r in the workspace."""
    axes, boys, hermite, potentials = scratch.work.axes, scratch.work.boys, scratch.work.hermite, scratch.potentials
    size = known.counts[order]
    for w in range(len(omegas)):
        theta = 1.0 if omegas[w] == 0.0 else omegas[w] ** 2 / (omegas[w] ** 2 + p)
        _boys(order, p * theta, np.sqrt(theta), known.boys, axes, boys)
        _hermite(order, known.steps, known.counts, axes, boys, hermite)
        for s in range(len(potentials)):
            for h in range(size):
                if w == 0:
                    for g in range(CHUNK):
                        potentials[s, h, g] = factors[w, s, start + g] * hermite[0, h, g]
                else:
                    for g in range(CHUNK):
                        potentials[s, h, g] += factors[w, s, start + g] * hermite[0, h, g]


@njit(**_INLINE)
def _gather(functions: int, size: int, coefficients: Any, base: int, products: Any, s: int, density: Any) -> None:
    """density (CHUNK,) = sum_f coefficients[base + f size] products[s, f]."""
    for g in range(CHUNK):
        density[g] = 0.0
    f = 0
    while f + 3 <= functions:
        c, c1, c2 = (
            coefficients[base + f * size],
            coefficients[base + (f + 1) * size],
            coefficients[base + (f + 2) * size],
        )
        for g in range(CHUNK):
            density[g] += c * products[s, f, g] + c1 * products[s, f + 1, g] + c2 * products[s, f + 2, g]
        f += 3
    while f < functions:
        c = coefficients[base + f * size]
        for g in range(CHUNK):
            density[g] += c * products[s, f, g]
        f += 1


@njit(**_OPTIONS)
def _pair(
    pair: int,
    points: Any,
    start: int,
    omegas: Any,
    pairs: Any,
    known: Any,
    scratch: Any,
    factors: Any,
    own: Any,
    of_points: Any,
) -> None:
    """Add what one pair of shells gives at one chunk of points, E_b E_d being in scratch.products."""
    one, two = pairs.shells[pair, 5], pairs.shells[pair, 6]
    functions, order = pairs.shells[pair, 1] * pairs.shells[pair, 3], pairs.shells[pair, 4]
    size = known.counts[order]
    axes, density, forces, potentials = scratch.work.axes, scratch.density, scratch.forces, scratch.potentials
    for q in range(pairs.primitives[pair], pairs.primitives[pair + 1]):
        for g in range(CHUNK):
            x = pairs.gaussians[q, 1] - points[0, start + g]
            y = pairs.gaussians[q, 2] - points[1, start + g]
            z = pairs.gaussians[q, 3] - points[2, start + g]
            axes[0, g], axes[1, g], axes[2, g] = x, y, z
            axes[3, g] = x * x + y * y + z * z
        _weigh(pairs.gaussians[q, 0], order + 1, start, omegas, known, scratch, factors)
        for x in range(6):
            for g in range(CHUNK):
                forces[x, g] = 0.0
        for s in range(len(potentials)):
            for h in range(size):
                base = pairs.offsets[q] + h
                _gather(functions, size, pairs.coefficients, base, scratch.products, s, density)
                for x in range(3):
                    up = pairs.raised[x, h]
                    for g in range(CHUNK):
                        forces[x, g] += density[g] * potentials[s, up, g]
                if one != two:
                    for x in range(3):
                        base += functions * size
                        _gather(functions, size, pairs.coefficients, base, scratch.products, s, density)
                        for g in range(CHUNK):
                            forces[3 + x, g] += density[g] * potentials[s, h, g]
        share = pairs.gaussians[q, 4]
        for x in range(3):
            together, apart = 0.0, 0.0
            for g in range(CHUNK):
                of_points[x, start + g] += forces[x, g]
                together += forces[x, g]
                apart += forces[3 + x, g]
            own[one, x] += share * together + apart
            own[two, x] += (1.0 - share) * together - apart


@njit(**_OPTIONS)
def _add(
    first: int,
    last: int,
    points: Any,
    omegas: Any,
    pairs: Any,
    known: Any,
    scratch: Any,
    factors: Any,
    threshold: float,
    vectors: Any,
    own: Any,
    of_points: Any,
) -> None:
    """Add the gradients by the atoms (A, 3) and at the points (3, G) of the chunks `first` to `last`."""
    products = scratch.products
    sizes = np.empty(vectors.shape[1])
    for k in range(first, last):
        start = k * CHUNK
        for b in range(len(sizes)):
            largest = 0.0
            for s in range(vectors.shape[0]):
                for g in range(start, start + CHUNK):
                    weight = 0.0
                    for w in range(len(omegas)):
                        weight = max(weight, abs(factors[w, s, g]))
                    largest = max(largest, weight * vectors[s, b, g] ** 2)
            sizes[b] = np.sqrt(largest)
        for pair in range(len(pairs.shells)):
            one, two = pairs.shells[pair, 0], pairs.shells[pair, 2]
            largest, other = 0.0, 0.0
            for b in range(one, one + pairs.shells[pair, 1]):
                largest = max(largest, sizes[b])
            for d in range(two, two + pairs.shells[pair, 3]):
                other = max(other, sizes[d])
            if pairs.bounds[pair] * largest * other < threshold:
                continue
            scale = -0.5 if one == two else -1.0
            for s in range(vectors.shape[0]):
                row = 0
                for b in range(one, one + pairs.shells[pair, 1]):
                    for d in range(two, two + pairs.shells[pair, 3]):
                        for g in range(CHUNK):
                            products[s, row, g] = scale * vectors[s, b, start + g] * vectors[s, d, start + g]
                        row += 1
            _pair(pair, points, start, omegas, pairs, known, scratch, factors, own, of_points)
