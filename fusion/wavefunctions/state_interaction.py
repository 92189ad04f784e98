"""Configuration interaction of several states, by PySCF: the start of excited states."""

from __future__ import annotations

from functools import lru_cache
from math import comb
from typing import Any

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


@lru_cache(maxsize=8)
def several_states(system: System, states: int, pure_spin: bool = False) -> tuple[Expansion, tuple[float, ...]]:
    """Expansions of the lowest states, and the energies of these and of `EXTRA_STATES` more.

    With `pure_spin`, states of a higher spin than that of the system's unpaired electrons are left out.
    """
    core = core_orbitals(system)
    mol, basis = diffuse_molecule(system)
    electrons = (system.n_up - core, system.n_down - core)
    with single_thread(mol):
        field = open_shell_field(system, mol)
        levels, occupations, orbitals = _mean_natural_orbitals(system, field, core, electrons, states, pure_spin)
        if len(levels) < states:
            raise InputError(f"method.states={states}: {system.formula} has only {len(levels)} states in {basis}")
        orbitals = fix_signs(orbitals)
        active = active_orbitals(occupations, electrons)
        while determinants_in(active, electrons) < states:
            active += 1
        _, vectors = _roots(system, field, orbitals, core, active, electrons, states, pure_spin)
    name = f"CI({sum(electrons)},{active})/{basis}"
    return expansion(name, mol, orbitals, core, active, electrons, vectors), tuple(levels.tolist())


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


def _mean_natural_orbitals(
    system: System, field: Any, core: int, electrons: tuple[int, int], states: int, pure_spin: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Energies of the lowest states, and occupations and orbitals (nao, n), natural ones of their mean density above
    the core.

    Orbitals are taken in by their energies in the mean field, as many at a time as are affordable beside the natural
    orbitals of those before (Bender and Davidson 1966, J. Phys. Chem. 70, 2675).
    """
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
        orbitals = np.concatenate((inner, inside), axis=1)
        levels, vectors = _roots(
            system, field, orbitals, core, number, electrons, states + EXTRA_STATES, pure_spin, 1e-7
        )
        complete = turn == ROUNDS or not len(energies) or kept == most
        mean = vectors[: states if complete else _complete(levels, states)]
        occupations, rotation = _natural(mean, number, electrons)
        inside = inside @ rotation
        if complete:
            break
        kept = _occupied_orbitals(occupations, max(round(KEPT * most), *electrons))
        inside = inside[:, :kept]
    return levels, occupations, np.concatenate((inner, inside), axis=1)


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
