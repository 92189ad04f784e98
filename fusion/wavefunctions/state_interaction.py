"""Configuration interaction of several states, by PySCF: the start of excited states."""

from __future__ import annotations

from functools import lru_cache
from math import comb
from typing import Any, NamedTuple

import numpy as np

from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.wavefunctions.diffuse_basis import diffuse_molecule
from fusion.wavefunctions.hartree_fock import fix_signs, single_thread
from fusion.wavefunctions.interaction import (
    DEGENERATE,
    Expansion,
    active_orbitals,
    core_orbitals,
    determinants_in,
    expansion,
    natural_orbitals,
    open_shell_field,
)

FIRST_ORBITALS, FIRST_SPACE = 30, 12_000
"""Largest number of orbitals, and of determinants, in which the mean density of several states is calculated: the time
of a full configuration interaction grows with the fourth power of the orbitals."""

EMPTY = 1e-6
"""Smaller occupations are noise."""

FIRST_KEPT, KEPT = 0.5, 0.7
"""Largest shares of natural orbitals: of the ground state in the first such calculation, and of the last in others."""

FURTHER = 2
"""Natural orbitals beyond those of one spin's electrons that the first one has at least."""

LARGEST_BASIS = 150
"""Basis functions up to which the ground state has a configuration interaction with single and double excitations."""

ROUNDS = 12
"""Largest number of such calculations, each with further orbitals beside the natural ones of the last."""

SAME_ORBITAL = 1e-3
"""Difference (hartree) of orbital energies below which two orbitals belong to one level."""

SPIN_SHIFT = 1.0
"""Energy (hartree) of the square of the deviation of S^2, where states of one spin are wanted."""

SAME_LEVEL = 1e-3
"""Difference (hartree) of energies below which two states belong to one level."""

EXTRA_STATES = 4
"""Further states whose energies tell whether the last one belongs to a level that is not complete."""


class Levels(NamedTuple):
    """A full configuration interaction of several states.

    `inner` (nao, core) and `inside` (nao, n) are orbitals, `vectors` (states, S_up, S_down) are in those of `inside`.
    """

    mol: Any
    basis: str
    field: Any
    energies: np.ndarray
    inner: np.ndarray
    inside: np.ndarray
    vectors: np.ndarray
    electrons: tuple[int, int]


def several_states(system: System, states: int, pure_spin: bool = False) -> tuple[Expansion, tuple[float, ...]]:
    """Expansions of the lowest states in natural orbitals of their mean density, and the energies of these and of
    `EXTRA_STATES` more.

    With `pure_spin`, states of a higher spin than that of the system's unpaired electrons are left out.
    """
    found = _levels(system, states, pure_spin)
    occupations, rotation = _natural(found.vectors[:states], found.inside.shape[1], found.electrons)
    orbitals = fix_signs(np.concatenate((found.inner, found.inside @ rotation), axis=1))
    active = active_orbitals(occupations, found.electrons)
    while determinants_in(active, found.electrons) < states:
        active += 1
    core = found.inner.shape[1]
    with single_thread(found.mol):
        _, vectors = _roots(system, found.field, orbitals, core, active, found.electrons, states, pure_spin)
    name = f"CI({sum(found.electrons)},{active})/{found.basis}"
    expanded = expansion(name, found.mol, orbitals, core, active, found.electrons, vectors)
    return expanded, tuple(found.energies.tolist())


def one_of_several(
    system: System, state: int, states: int, pure_spin: bool = False
) -> tuple[Expansion, tuple[float, ...]]:
    """Expansion of one of the states in natural orbitals of its own level, and all energies of ``several_states``."""
    from pyscf.fci.addons import transform_ci

    found = _levels(system, states, pure_spin)
    number = found.inside.shape[1]
    same = np.abs(found.energies[: len(found.vectors)] - found.energies[state]) < SAME_LEVEL
    occupations, rotation = _natural(found.vectors[same], number, found.electrons)
    orbitals = np.concatenate((found.inner, found.inside @ rotation), axis=1)
    signs = np.sign(np.sum(fix_signs(orbitals) * orbitals, axis=0))
    vector = transform_ci(found.vectors[state], found.electrons, rotation * signs[found.inner.shape[1] :])
    active = active_orbitals(occupations, found.electrons)
    # Strings of the first orbitals are the first strings.
    up, down = (comb(active, n) for n in found.electrons)
    name = f"CI({sum(found.electrons)},{active})/{found.basis}"
    core = found.inner.shape[1]
    kept = np.asarray(vector)[None, :up, :down]
    expanded = expansion(name, found.mol, orbitals * signs, core, active, found.electrons, kept)
    return expanded, tuple(found.energies.tolist())


def _whole_levels(energies: np.ndarray, most: int) -> int:
    """Number of the lowest orbitals, at most `most`, at the end of a level of their energies (hartree); `most` if the
    first level has more."""
    choices = range(1, min(len(energies), most) + 1)
    ends = (n for n in choices if n == len(energies) or energies[n] - energies[n - 1] > SAME_ORBITAL)
    return max(ends, default=min(len(energies), most))


def _occupied_orbitals(occupations: np.ndarray, most: int) -> int:
    """Number of orbitals, at most `most`, that are not empty, at the end of a level."""
    kept = min(most, max(1, int(np.sum(occupations > EMPTY))))
    while 1 < kept < len(occupations) and occupations[kept] > DEGENERATE * occupations[kept - 1]:
        kept -= 1
    return kept


def _roots(
    system: System,
    field: Any,
    orbitals: np.ndarray,
    core: int,
    active: int,
    electrons: tuple[int, int],
    states: int,
    pure_spin: bool,
    tolerance: float = 1e-10,
) -> tuple[np.ndarray, np.ndarray]:
    """Energies, within `tolerance` (hartree), and vectors (states, S_up, S_down) of the lowest states in an active
    space; fewer in a small space.

    Raises CalculationError without convergence.
    """
    from pyscf import mcscf

    solver = mcscf.CASCI(field, active, electrons, ncore=core)
    solver.fcisolver.nroots = min(states, determinants_in(active, electrons))
    solver.fcisolver.conv_tol, solver.fcisolver.max_cycle, solver.fcisolver.max_space = tolerance, 300, 30
    solver.canonicalization = False
    if pure_spin:
        spin = (electrons[0] - electrons[1]) / 2
        solver.fix_spin_(shift=SPIN_SHIFT, ss=spin * (spin + 1))
    energies, _, vectors, _, _ = solver.kernel(orbitals)
    if not np.all(solver.fcisolver.converged):
        raise CalculationError(f"the configuration interaction of {system.formula} did not converge")
    number = solver.fcisolver.nroots
    return np.reshape(energies, number), np.reshape(vectors, (number, comb(active, electrons[0]), -1))


@lru_cache(maxsize=8)
def _levels(system: System, states: int, pure_spin: bool) -> Levels:
    """Lowest states in orbitals that hold the natural ones of their mean density above the core.

    Orbitals are taken in by their energies in the mean field, as many at a time as are affordable beside the natural
    orbitals of those before (Bender and Davidson 1966, J. Phys. Chem. 70, 2675). Raises InputError for too few states.
    """
    core = core_orbitals(system)
    mol, basis = diffuse_molecule(system)
    electrons = (system.n_up - core, system.n_down - core)
    with single_thread(mol):
        field = open_shell_field(system, mol)
        energies, inside, vectors = _converged_space(system, field, core, electrons, states, pure_spin)
    if len(energies) < states:
        raise InputError(f"method.states={states}: {system.formula} has only {len(energies)} states in {basis}")
    return Levels(mol, basis, field, energies, field.mo_coeff[:, :core], inside, vectors, electrons)


def _converged_space(
    system: System, field: Any, core: int, electrons: tuple[int, int], states: int, pure_spin: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Energies of the lowest states, orbitals (nao, n) above the core, and vectors of the states in them."""
    most = max(n for n in range(FIRST_ORBITALS + 1) if determinants_in(n, electrons) <= FIRST_SPACE)
    most = max(most, *electrons, 1)
    inner = field.mo_coeff[:, :core]
    orbitals, occupations = field.mo_coeff, np.asarray(field.mo_occ[core:])
    if most < FIRST_ORBITALS and field.mol.nao <= LARGEST_BASIS:
        # The lowest orbitals are diffuse: natural ones of the ground state have the valence orbitals among the first.
        orbitals, occupations = natural_orbitals(field, core) or (orbitals, occupations)
    kept = _occupied_orbitals(occupations, max(round(FIRST_KEPT * most), max(electrons) + FURTHER))
    inside, energies, outside = orbitals[:, core : core + kept], *_canonical(field, orbitals[:, core + kept :])
    for turn in range(1, ROUNDS + 1):
        taken = _whole_levels(energies, most - inside.shape[1])
        inside = np.concatenate((inside, outside[:, :taken]), axis=1)
        energies, outside = energies[taken:], outside[:, taken:]
        number = inside.shape[1]
        levels, vectors = _roots(
            system,
            field,
            np.concatenate((inner, inside), axis=1),
            core,
            number,
            electrons,
            states + EXTRA_STATES,
            pure_spin,
            1e-7,
        )
        complete = _complete(levels, states)
        if turn == ROUNDS or not len(energies) or kept == most:
            break
        occupations, rotation = _natural(vectors[:complete], number, electrons)
        kept = _occupied_orbitals(occupations, max(round(KEPT * most), *electrons))
        inside = (inside @ rotation)[:, :kept]
    return levels, inside, vectors[:complete]


def _canonical(field: Any, orbitals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energies (hartree), lowest first, and orbitals that diagonalise the mean field in the space of `orbitals`."""
    energies, rotation = np.linalg.eigh(orbitals.T @ np.asarray(field.get_fock()) @ orbitals)
    return energies, orbitals @ rotation


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
