"""Configuration interaction in natural orbitals, by PySCF: leading strings and the coefficients between them."""

from __future__ import annotations

from functools import lru_cache
from math import comb
from typing import Any, NamedTuple

import numpy as np

from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.wavefunctions.configurations import aligned
from fusion.wavefunctions.diffuse_basis import diffuse_molecule
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

FIRST_ORBITALS, FIRST_SPACE = 30, 12_000
"""Largest number of orbitals, and of determinants, in which the mean density of several states is calculated: the time
of a full configuration interaction grows with the fourth power of the orbitals."""

ROUNDS = 12
"""Largest number of such calculations, each with further orbitals beside the natural ones of the last."""

SAME_ORBITAL = 1e-3
"""Difference (hartree) of orbital energies below which two orbitals belong to one level."""

SAME_LEVEL = 1e-3
"""Difference (hartree) of energies below which two states belong to one level."""

EXTRA_STATES = 4
"""Further states whose energies tell whether the last one belongs to a level that is not complete."""


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

    core = _core_orbitals_of(system)
    mol = reference_molecule(system)
    electrons = (system.n_up - core, system.n_down - core)
    with single_thread(mol):
        field = _open_shell_field(system, mol)
        orbitals, occupations = _natural_orbitals(field, core) or _of_active_space(system, field, core, electrons)
        orbitals = fix_signs(orbitals)
        active = _active_orbitals(occupations, electrons)
        solver = mcscf.CASCI(field, active, electrons, ncore=core)
        spin = (system.n_up - system.n_down) / 2
        solver.fix_spin_(ss=spin * (spin + 1))
        solver.fcisolver.conv_tol = 1e-9
        solver.canonicalization = False
        _, _, vector, _, _ = solver.kernel(orbitals)
    if not np.all(solver.fcisolver.converged):
        raise CalculationError(f"the configuration interaction of {system.formula} did not converge")
    name = label_of(f"CI({sum(electrons)},{active})", mol)
    return _expansion(name, mol, orbitals, core, active, electrons, np.asarray(vector)[None])


@lru_cache(maxsize=8)
def several_states(system: System, states: int) -> tuple[Expansion, tuple[float, ...]]:
    """Expansions of the lowest states, and the energies of these and of `EXTRA_STATES` more."""
    core = _core_orbitals_of(system)
    mol, basis = diffuse_molecule(system)
    electrons = (system.n_up - core, system.n_down - core)
    with single_thread(mol):
        field = _open_shell_field(system, mol)
        levels, occupations, orbitals = _mean_natural_orbitals(system, field, core, electrons, states)
        if len(levels) < states:
            raise InputError(f"method.states={states}: {system.formula} has only {len(levels)} states in {basis}")
        orbitals = fix_signs(orbitals)
        active = _active_orbitals(occupations, electrons)
        while _size(active, electrons) < states:
            active += 1
        _, vectors = _roots(system, field, orbitals, core, active, electrons, states)
    name = f"CI({sum(electrons)},{active})/{basis}"
    return _expansion(name, mol, orbitals, core, active, electrons, vectors), tuple(levels.tolist())


def _open_shell_field(system: System, mol: Any) -> Any:
    from pyscf import scf

    field = scf.addons.remove_linear_dep_(scf.ROHF(mol))
    field.conv_tol = 1e-10
    field.chkfile = None
    field.kernel()
    if not field.converged:
        field = field.newton()
        field.kernel(field.mo_coeff, field.mo_occ)
    if not field.converged:
        raise CalculationError(f"Hartree-Fock of {system.formula} did not converge: check geometry, charge and spin")
    return field


def _largest_space(energies: np.ndarray, electrons: tuple[int, int]) -> int:
    """Number of the lowest orbitals, at the end of a level of their energies (hartree), whose full configuration
    interaction is affordable."""
    affordable = max(n for n in range(FIRST_ORBITALS + 1) if _size(n, electrons) <= FIRST_SPACE)
    return max(_whole_levels(energies, affordable), *electrons, 1)


def _whole_levels(energies: np.ndarray, most: int) -> int:
    """Number of the lowest orbitals, at most `most`, at the end of a level of their energies (hartree); `most` if the
    first level has more."""
    choices = range(1, min(len(energies), most) + 1)
    ends = (n for n in choices if n == len(energies) or energies[n] - energies[n - 1] > SAME_ORBITAL)
    return max(ends, default=min(len(energies), most))


def _occupied_orbitals(occupations: np.ndarray, most: int) -> int:
    """Number of natural orbitals, at most `most`, above SMALLEST_OCCUPATION and at the end of a level."""
    kept = min(most, max(1, int(np.sum(occupations > SMALLEST_OCCUPATION))))
    while 1 < kept < len(occupations) and occupations[kept] > DEGENERATE * occupations[kept - 1]:
        kept -= 1
    return kept


def _size(orbitals: int, electrons: tuple[int, int]) -> int:
    return comb(orbitals, electrons[0]) * comb(orbitals, electrons[1])


def _roots(
    system: System,
    field: Any,
    orbitals: np.ndarray,
    core: int,
    active: int,
    electrons: tuple[int, int],
    states: int,
    tolerance: float = 1e-10,
) -> tuple[np.ndarray, np.ndarray]:
    """Energies, within `tolerance` (hartree), and vectors (states, S_up, S_down) of the lowest states in an active
    space; fewer in a small space.

    Raises CalculationError without convergence.
    """
    from pyscf import mcscf

    solver = mcscf.CASCI(field, active, electrons, ncore=core)
    solver.fcisolver.nroots = min(states, _size(active, electrons))
    solver.fcisolver.conv_tol, solver.fcisolver.max_cycle, solver.fcisolver.max_space = tolerance, 300, 30
    solver.canonicalization = False
    energies, _, vectors, _, _ = solver.kernel(orbitals)
    if not np.all(solver.fcisolver.converged):
        raise CalculationError(f"the configuration interaction of {system.formula} did not converge")
    number = solver.fcisolver.nroots
    return np.reshape(energies, number), np.reshape(vectors, (number, comb(active, electrons[0]), -1))


def _mean_natural_orbitals(
    system: System, field: Any, core: int, electrons: tuple[int, int], states: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Energies of the lowest states, and occupations and orbitals (nao, n), natural ones of their mean density above
    the core.

    Orbitals of the mean field are taken in by their energies, as many at a time as are affordable beside the natural
    orbitals of those before (Bender and Davidson 1966, J. Phys. Chem. 70, 2675).
    """
    outer, energies = field.mo_coeff[:, core:], field.mo_energy[core:]
    first = _largest_space(energies, electrons)
    inside, left = outer[:, :first], slice(first, None)
    for last in [*[False] * (ROUNDS - 1), True]:
        orbitals = np.concatenate((field.mo_coeff[:, :core], inside), axis=1)
        number = inside.shape[1]
        levels, vectors = _roots(system, field, orbitals, core, number, electrons, states + EXTRA_STATES, 1e-7)
        further = outer[:, left]
        complete = last or not further.shape[1]
        mean = vectors[: states if complete else _complete(levels, states)]
        occupations, rotation = _natural(mean, number, electrons)
        inside = inside @ rotation
        kept = _occupied_orbitals(occupations, max(number // 2, *electrons))
        if complete or kept >= first:
            break
        taken = _whole_levels(energies[left], first - kept)
        inside = np.concatenate((inside[:, :kept], further[:, :taken]), axis=1)
        left = slice(left.start + taken, None)
    return levels, occupations, np.concatenate((field.mo_coeff[:, :core], inside), axis=1)


def _complete(levels: np.ndarray, states: int) -> int:
    """Largest number of states, at least `states`, that ends a level of the energies (hartree) of these and more."""
    ends = (n for n in range(states, len(levels)) if levels[n] - levels[n - 1] > SAME_LEVEL)
    return max(ends, default=states)


def _natural(vectors: np.ndarray, active: int, electrons: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Occupations, and natural orbitals of the mean density of several states as columns of a rotation."""
    from pyscf import fci

    solver = fci.direct_spin1.FCI()
    density = np.mean([solver.make_rdm1(vector, active, electrons) for vector in vectors], axis=0)
    occupations, rotation = np.linalg.eigh(density)
    order = np.argsort(-occupations)
    return occupations[order], rotation[:, order]


def _expansion(
    name: str,
    mol: Any,
    orbitals: np.ndarray,
    core: int,
    active: int,
    electrons: tuple[int, int],
    vectors: np.ndarray,
) -> Expansion:
    """Expansion in the leading strings of the vectors (states, S_up, S_down) of an active space."""
    strings, coefficients = _leading(vectors, active, electrons)
    strings = [np.concatenate((np.tile(np.arange(core), (len(own), 1)), core + own), axis=1) for own in strings]
    strings[0], columns = aligned(strings[0], coefficients.transpose(1, 2, 0))
    strings[1], rows = aligned(strings[1], columns.transpose(1, 0, 2))
    coefficients = rows.transpose(2, 1, 0)
    occupied = [own for own in strings if own.shape[1]]
    one = len(coefficients) == 1
    return Expansion(name, mol, orbitals[:, : core + active], occupied, coefficients[0] if one else coefficients)


def _natural_orbitals(field: Any, core: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Orbitals (nao, n), natural ones of CISD above the core of a mean field of PySCF, and the occupations of these.

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


def _active_orbitals(occupations: np.ndarray, electrons: tuple[int, int]) -> int:
    """Number of natural orbitals, at the end of a level, whose full CI is affordable."""
    smallest = max(max(electrons), 1)
    choices = [
        n
        for n in range(smallest, min(LARGEST_ACTIVE, len(occupations)) + 1)
        if _size(n, electrons) <= LARGEST_SPACE
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


def _core_orbitals_of(system: System) -> int:
    """Orbitals of the noble gases below the elements that have no core potential; fewer if electrons are missing."""
    with_core = {core.symbol for core in system.cores}
    numbers = (int(z) for z, symbol in zip(system.numbers, system.symbols, strict=True) if symbol not in with_core)
    return min(sum(_core_orbitals(number) for number in numbers), system.n_down)


def _core_orbitals(number: int) -> int:
    """Orbitals of the noble gas below an element."""
    return next(orbitals for above, orbitals in ((18, 9), (10, 5), (2, 1), (0, 0)) if number > above)
