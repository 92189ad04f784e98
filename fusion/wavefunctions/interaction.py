"""Configuration interaction in natural orbitals, by PySCF: leading strings and the coefficients between them."""

from __future__ import annotations

from functools import lru_cache
from math import comb
from typing import Any, NamedTuple

import numpy as np

from fusion.chemistry.system import System
from fusion.errors import CalculationError
from fusion.wavefunctions.configurations import aligned
from fusion.wavefunctions.hartree_fock import (
    basis_label,
    fix_signs,
    reference_molecule,
    single_thread,
)

LARGEST_SPACE = 700_000
"""Determinants (seconds) of the largest active space."""

LARGEST_ACTIVE = 14
"""Orbitals of the largest active space: 1s and the shells with n = 2 and 3 of an atom."""

SMALLEST_OCCUPATION = 1e-4
"""Natural orbitals with fewer electrons stay outside the active space."""

STRINGS = 40
"""Largest number of strings of one spin."""

HIGHEST_EXCITATION = 3
"""Largest number of orbitals in which a string differs from the first."""

DEGENERATE = 0.9
"""Ratio of two weights or occupations above which both belong to the same level: it is kept or left out as a whole."""


class Expansion(NamedTuple):
    """Orbitals (nao, n) of PySCF's molecule, and an expansion in strings of them, as ``Configurations`` takes it.

    `own` are the orbitals of each occupied spin; None if the spins share all.
    """

    name: str
    mol: Any
    orbitals: np.ndarray
    strings: list[np.ndarray]
    coefficients: np.ndarray
    own: list[slice] | None = None


@lru_cache(maxsize=8)
def interaction(system: System) -> Expansion:
    """Expand the ground state in natural orbitals of CISD; raises the errors of ``ConfigurationInteraction``."""
    from pyscf import mcscf

    core = core_orbitals(system)
    mol = reference_molecule(system)
    electrons = (system.n_up - core, system.n_down - core)
    with single_thread(mol):
        field = open_shell_field(system, mol)
        orbitals, occupations = natural_orbitals(field, core) or _of_active_space(system, field, core, electrons)
        orbitals = fix_signs(orbitals)
        active = active_orbitals(occupations, electrons)
        solver = mcscf.CASCI(field, active, electrons, ncore=core)
        spin = (system.n_up - system.n_down) / 2
        solver.fix_spin_(ss=spin * (spin + 1))
        solver.fcisolver.conv_tol = 1e-9
        solver.canonicalization = False
        _, _, vector, _, _ = solver.kernel(orbitals)
    if not np.all(solver.fcisolver.converged):
        raise CalculationError(f"the configuration interaction of {system.formula} did not converge")
    name = label_of(f"CI({sum(electrons)},{active})", mol)
    return expansion(name, mol, orbitals, core, active, electrons, np.asarray(vector)[None])


def open_shell_field(system: System, mol: Any) -> Any:
    """Converge the restricted open-shell mean field of PySCF's molecule; raises CalculationError otherwise."""
    from pyscf import scf

    field = scf.ROHF(mol)
    field.conv_tol = 1e-10
    field.chkfile = None
    field.kernel()
    if not field.converged:
        field = field.newton()
        field.kernel(field.mo_coeff, field.mo_occ)
    if not field.converged:
        raise CalculationError(f"Hartree-Fock of {system.formula} did not converge: check geometry, charge and spin")
    return field


def determinants_in(orbitals: int, electrons: tuple[int, int]) -> int:
    """Number of determinants of (up, down) electrons in an active space."""
    return comb(orbitals, electrons[0]) * comb(orbitals, electrons[1])


def expansion(
    name: str,
    mol: Any,
    orbitals: np.ndarray,
    core: int,
    active: int,
    electrons: tuple[int, int],
    vectors: np.ndarray,
) -> Expansion:
    """Return the expansion in the leading strings of the vectors (states, S_up, S_down) of an active space."""
    strings, coefficients = _leading(vectors, active, electrons)
    strings = [np.concatenate((np.tile(np.arange(core), (len(own), 1)), core + own), axis=1) for own in strings]
    strings[0], columns = aligned(strings[0], coefficients.transpose(1, 2, 0))
    strings[1], rows = aligned(strings[1], columns.transpose(1, 0, 2))
    coefficients = rows.transpose(2, 1, 0)
    occupied = [own for own in strings if own.shape[1]]
    one = len(coefficients) == 1
    return Expansion(name, mol, orbitals[:, : core + active], occupied, coefficients[0] if one else coefficients)


def natural_orbitals(field: Any, core: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return orbitals (nao, n), natural ones of CISD above the core of a mean field of PySCF, and their occupations.

    Where there is nothing to correlate, or no room in the active space, they are those of the mean field. None without
    convergence, as in stretched bonds.
    """
    from pyscf import ci

    if sum(field.mol.nelec) - 2 * core < 2 or max(field.mol.nelec) - core >= LARGEST_ACTIVE:
        return field.mo_coeff, np.asarray(field.mo_occ[core:])
    solver = ci.CISD(field, frozen=core or None)
    solver.verbose = 0
    solver.chkfile = None
    solver.kernel()
    if not solver.converged:
        return None
    density = np.asarray(solver.make_rdm1())
    density = density.sum(0) if density.ndim == 3 else density
    occupations, rotation = np.linalg.eigh(density[core:, core:])
    order = np.argsort(-occupations)
    inner = field.mo_coeff[:, :core]
    return np.concatenate((inner, field.mo_coeff[:, core:] @ rotation[:, order]), axis=1), occupations[order]


def _of_active_space(
    system: System, field: Any, core: int, electrons: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Orbitals (nao, n) of a CASSCF of all valence orbitals, and the occupations above the core: none outside of it."""
    from pyscf import mcscf

    active = sum(1 if z <= 2 else 4 for z in system.numbers)
    if not max(electrons) <= active <= LARGEST_ACTIVE:
        raise CalculationError(f"the configuration interaction of {system.formula} did not converge")
    solver = mcscf.CASSCF(field, active, electrons, ncore=core)
    solver.canonicalization, solver.chkfile = False, None
    solver.kernel()
    if not solver.converged:
        raise CalculationError(f"the CASSCF of {system.formula} did not converge")
    orbitals, _, occupations = solver.cas_natorb(sort=True)
    return orbitals, occupations[core:]


def active_orbitals(occupations: np.ndarray, electrons: tuple[int, int]) -> int:
    """Number of natural orbitals, at the end of a level, whose full CI is affordable."""
    smallest = max(max(electrons), 1)
    choices = [
        n
        for n in range(smallest, min(LARGEST_ACTIVE, len(occupations)) + 1)
        if determinants_in(n, electrons) <= LARGEST_SPACE
        and occupations[n - 1] > SMALLEST_OCCUPATION
        and (n == len(occupations) or occupations[n] < DEGENERATE * occupations[n - 1])
    ]
    return max(choices, default=smallest)


def _leading(vectors: np.ndarray, active: int, electrons: tuple[int, int]) -> tuple[list[np.ndarray], np.ndarray]:
    """Leading strings (S_s, n_s) of both spins in the mean of several states, and the coefficients (states, S_up,
    S_down) between them, of which the largest of each state is 1 or -1."""
    from pyscf.fci import cistring

    squares = (vectors**2).mean(0)
    kept, strings = [], []
    for axis, number in enumerate(electrons):
        weights = squares.sum(1 - axis)
        occupied = np.array([list(own) for own in cistring.gen_occslst(range(active), number)], dtype=int)
        first = set(occupied[np.argmax(weights)])
        near = [len(first.difference(own)) <= HIGHEST_EXCITATION for own in occupied.tolist()]
        order = np.argsort(-np.where(near, weights, 0.0), kind="stable")
        ordered = weights[order]
        number_kept = min(STRINGS, int(np.sum(near)))
        while 1 < number_kept < len(order) and ordered[number_kept] > DEGENERATE * ordered[number_kept - 1]:
            number_kept -= 1
        kept.append(order[:number_kept])
        strings.append(occupied[kept[-1]])
    coefficients = vectors[:, kept[0][:, None], kept[1]]
    largest = np.abs(coefficients).max((1, 2), keepdims=True)
    leading = coefficients.reshape(len(vectors), -1)
    signs = np.sign(np.take_along_axis(leading, np.abs(leading).argmax(1)[:, None], 1))[..., None]
    return strings, coefficients / (largest * signs)


def label_of(method: str, mol: Any) -> str:
    """Label of a conventional wavefunction: method and basis."""
    return f"{method}/{basis_label(mol.basis)}"


def core_orbitals(system: System) -> int:
    """Orbitals of the noble gases below the elements that have no core potential; fewer if electrons are missing."""
    with_core = {core.symbol for core in system.cores}
    numbers = (int(z) for z, symbol in zip(system.numbers, system.symbols, strict=True) if symbol not in with_core)
    return min(sum(_orbitals_below(number) for number in numbers), system.n_down)


def _orbitals_below(number: int) -> int:
    """Orbitals of the noble gas below an element."""
    return next(orbitals for above, orbitals in ((18, 9), (10, 5), (2, 1), (0, 0)) if number > above)
