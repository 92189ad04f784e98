"""Derivative of local Hartree-Fock exchange by the centres of the basis functions in its integrals.

    -1/2 sum_bd E_b E_d d nu_bd / dR,    nu_bd = sum_p sum_tuv C^p_bd,tuv R_tuv(P - r)

With P = (a B + b D) / p and X = B - D, d/dB = (a/p) d/dP + d/dX and d/dD = (b/p) d/dP - d/dX; d R_tuv / dP_x is
R_t+1,uv, and dC/dX follows from products of one higher and one lower power (Helgaker, Jorgensen and Olsen, Molecular
Electronic-Structure Theory (2000), secs. 9.5 and 9.9). E_b E_d is contracted with the Hermite functions first, which
all range separations share.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from fusion.compilation import INNER, njit
from fusion.functionals.local_exchange.integrals import (
    CHUNK,
    INLINE,
    OPTIONS,
    Workspace,
    boys_functions,
    displacements,
    hermite_functions,
    tables,
)
from fusion.functionals.local_exchange.local_exchange import padded
from fusion.functionals.local_exchange.shell_pairs import ShellPairs, hermite_powers
from fusion.parallel.thread_pool import each_range

THRESHOLD: Final = 1e-11
"""Pairs of shells that contribute less than this (hartree/bohr) to the gradient at a point are left out there."""


class Scratch(NamedTuple):
    """Arrays of one thread."""

    work: Workspace
    products: np.ndarray
    """(S, functions, CHUNK): E_b E_d."""
    density: np.ndarray
    """(CHUNK,): density of one Hermite function."""
    potentials: np.ndarray
    """(S, H, CHUNK): R times the derivatives of the energy, summed over range separations."""
    forces: np.ndarray
    """(6, CHUNK): d/dP and d/dX of one pair of primitives."""
    raised: np.ndarray
    """(3, H): index of the Hermite function with one more power along x, y, z."""


def exchange_gradient(
    pairs: ShellPairs, atoms: int, omegas: tuple[float, ...], coords: np.ndarray, smeared: np.ndarray, by: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients by the integrals of E (S, n, G) at grid points (G, 3), `by` (W, S, G) being dE_xc / de_x.

    `pairs` must have derivatives. Returns the gradient (A, 3) by the atoms, and for each point (3, G) the sum over all
    atoms.
    """
    points, vectors, factors = padded(coords.T), padded(smeared), padded(by)
    factors[..., len(coords) :] = 0.0
    lookup = tables(int(pairs.shells[:, 4].max()) + 1)
    of_atoms, of_points = [], np.zeros((3, points.shape[1]))

    def work(first: int, last: int) -> None:
        own = np.zeros((atoms, 3))
        scratch = _scratch(pairs, len(smeared))
        _add(first, last, points, np.array(omegas), pairs, lookup, scratch, factors, THRESHOLD, vectors, own, of_points)
        of_atoms.append(own)

    each_range(work, points.shape[1] // CHUNK)
    return np.sum(of_atoms, axis=0), of_points[:, : len(coords)]


def _scratch(pairs: ShellPairs, spins: int) -> Scratch:
    order = int(pairs.shells[:, 4].max()) + 1
    powers, size = hermite_powers(order - 1), len(hermite_powers(order))
    place = {tuple(power): index for index, power in enumerate(hermite_powers(order).tolist())}
    raised = np.array([[place[tuple(power)] for power in (powers + step).tolist()] for step in np.eye(3, dtype=int)])
    functions = int((pairs.shells[:, 1] * pairs.shells[:, 3]).max())
    work = Workspace(
        np.empty((4, CHUNK)), np.empty((order + 2, CHUNK)), np.empty((order + 1, size, CHUNK)), np.empty((0, 0, CHUNK))
    )
    products, potentials = np.empty((spins, functions, CHUNK)), np.empty((spins, size, CHUNK))
    return Scratch(work, products, np.empty(CHUNK), potentials, np.empty((6, CHUNK)), raised)


@njit(**INLINE)
def _weigh(
    p: float, order: int, start: int, omegas: np.ndarray, lookup: Any, scratch: Any, factors: np.ndarray
) -> None:
    """Compute scratch.potentials (S, H, CHUNK) of one pair of primitives from the axes P - r in the workspace."""
    axes, boys, hermite, potentials = scratch.work.axes, scratch.work.boys, scratch.work.hermite, scratch.potentials
    size = lookup.counts[order]
    for w in range(len(omegas)):
        boys_functions(order, p, omegas[w], lookup, axes, boys)
        hermite_functions(order, lookup, axes, boys, hermite)
        for s in range(len(potentials)):
            for h in range(size):
                if w == 0:
                    for g in range(CHUNK):
                        potentials[s, h, g] = factors[w, s, start + g] * hermite[0, h, g]
                else:
                    for g in range(CHUNK):
                        potentials[s, h, g] += factors[w, s, start + g] * hermite[0, h, g]


@njit(**INLINE)
def _gather(functions: int, size: int, coefficients: Any, base: int, products: Any, s: int, density: Any) -> None:
    """Compute density (CHUNK,) = sum_f coefficients[base + f size] products[s, f]."""
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


@njit(**OPTIONS, **INNER)
def _pair(
    pair: int,
    points: Any,
    start: int,
    omegas: Any,
    pairs: Any,
    lookup: Any,
    scratch: Any,
    factors: Any,
    own: Any,
    of_points: Any,
) -> None:
    """Add the gradient of one pair of shells at one chunk of points; scratch.products holds E_b E_d."""
    atom_b, atom_d = pairs.shells[pair, 5], pairs.shells[pair, 6]
    functions, order = pairs.shells[pair, 1] * pairs.shells[pair, 3], pairs.shells[pair, 4]
    size = lookup.counts[order]
    axes, density, forces, potentials = scratch.work.axes, scratch.density, scratch.forces, scratch.potentials
    for q in range(pairs.primitives[pair], pairs.primitives[pair + 1]):
        displacements(pairs.gaussians, q, points, start, axes)
        _weigh(pairs.gaussians[q, 0], order + 1, start, omegas, lookup, scratch, factors)
        for x in range(6):
            for g in range(CHUNK):
                forces[x, g] = 0.0
        for s in range(len(potentials)):
            for h in range(size):
                base = pairs.offsets[q] + h
                _gather(functions, size, pairs.coefficients, base, scratch.products, s, density)
                for x in range(3):
                    up = scratch.raised[x, h]
                    for g in range(CHUNK):
                        forces[x, g] += density[g] * potentials[s, up, g]
                if atom_b != atom_d:
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
            own[atom_b, x] += share * together + apart
            own[atom_d, x] += (1.0 - share) * together - apart


@njit(**OPTIONS)
def _add(
    first: int,
    last: int,
    points: Any,
    omegas: Any,
    pairs: Any,
    lookup: Any,
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
            begin_b, begin_d = pairs.shells[pair, 0], pairs.shells[pair, 2]
            largest, other = 0.0, 0.0
            for b in range(begin_b, begin_b + pairs.shells[pair, 1]):
                largest = max(largest, sizes[b])
            for d in range(begin_d, begin_d + pairs.shells[pair, 3]):
                other = max(other, sizes[d])
            if pairs.bounds[pair] * largest * other < threshold:
                continue
            scale = -0.5 if begin_b == begin_d else -1.0
            for s in range(vectors.shape[0]):
                row = 0
                for b in range(begin_b, begin_b + pairs.shells[pair, 1]):
                    for d in range(begin_d, begin_d + pairs.shells[pair, 3]):
                        for g in range(CHUNK):
                            products[s, row, g] = scale * vectors[s, b, start + g] * vectors[s, d, start + g]
                        row += 1
            _pair(pair, points, start, omegas, pairs, lookup, scratch, factors, own, of_points)
