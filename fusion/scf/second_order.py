"""Second-order SCF and the curvature of the energy by rotations of the orbitals, through PySCF.

Sun, arXiv:1610.08423; Seeger and Pople, J. Chem. Phys. 66, 3045 (1977). The products of the Hessian with vectors come
from `fusion.functionals.grid.response`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pyscf import lib
from pyscf.scf import stability
from pyscf.soscf import newton_ah

CYCLES = 10
"""Largest number of cycles, starting near a solution; each takes a dozen products, each as costly as an SCF cycle."""
TOL = 1e-3
PRODUCTS = 20
"""Largest number of Hessian-vector products: enough to distinguish a saddle point from a minimum."""
FLAT = 1e-3
"""Negative curvature (hartree) that counts as zero: on a grid, rotating an atom's open shell has a small one."""


def solved(mean_field: Any, orbitals: Any, numbers: Any, density: Any = None, most: int = CYCLES) -> tuple[Any, int]:
    """Run PySCF's solver for at most `most` cycles; return it with its number of cycles.

    It starts from orbitals with their occupations, otherwise from a density.
    """
    solver, cycles = mean_field.newton(), 0

    def count(envs: dict[str, Any]) -> None:
        nonlocal cycles
        cycles = envs["imacro"] + 1
        if mean_field.callback is not None and "norm_gorb" in envs:
            mean_field.callback(envs)

    solver.callback, solver.verbose = count, 0
    solver.max_cycle = min(most, mean_field.max_cycle)
    if orbitals is None:
        solver.mo_coeff = solver.mo_occ = None
        solver.kernel(dm0=density)
    else:
        solver.kernel(orbitals, numbers)
    return solver, cycles


def lowest_curvature(mean_field: Any, products: int = PRODUCTS) -> tuple[float, Any]:
    """Lowest eigenvalue (hartree) of the orbital Hessian, and the orbitals after a step along its eigenvector."""
    orbitals, numbers = mean_field.mo_coeff, mean_field.mo_occ
    restricted = np.ndim(numbers) == 1
    product = newton_ah.gen_g_hop_rhf if restricted else newton_ah.gen_g_hop_uhf
    gradient, hessian_times, diagonal = product(mean_field, orbitals, numbers)
    if not len(gradient):
        return np.inf, orbitals
    value, vector = lowest_eigenpair(hessian_times, diagonal, products)
    if restricted:
        return value, stability._rotate_mo(orbitals, numbers, vector)
    pairs = np.count_nonzero(numbers[0] > 0) * np.count_nonzero(numbers[0] == 0)
    rotated = [stability._rotate_mo(orbitals[0], numbers[0], vector[:pairs])]
    rotated.append(stability._rotate_mo(orbitals[1], numbers[1], vector[pairs:]))
    return value, np.array(rotated)


def lowest_eigenpair(product: Callable[[np.ndarray], np.ndarray], diagonal: np.ndarray, products: int) -> Any:
    """Lowest Ritz value (hartree) of an orbital Hessian after at most `products` products, and its vector."""

    def preconditioned(step: np.ndarray, value: float, _: Any) -> np.ndarray:
        shifted = diagonal - value
        shifted[np.abs(shifted) < 1e-8] = 1e-8
        return np.asarray(step / shifted)

    start = np.zeros(len(diagonal))
    start[np.argmin(diagonal)] = 1.0
    start += 1e-2 / (1.0 + np.abs(diagonal))  # components of every symmetry
    value, vector = lib.davidson(product, start, preconditioned, tol=TOL, max_cycle=products, verbose=0)
    return float(value), vector
