"""Starts of several states: orbitals of all, and of each alone."""

from __future__ import annotations

import numpy as np
import pytest

from exact import molecule
from fusion.wavefunctions.interaction import Expansion
from fusion.wavefunctions.state_interaction import one_of_several, several_states

STATES = 3


def pair_function(expansion: Expansion, coefficients: np.ndarray) -> np.ndarray:
    """Wavefunction (nao, nao) of two electrons of opposite spin."""
    up, down = (expansion.orbitals[:, own[:, 0]] for own in expansion.strings)
    return np.asarray(up @ coefficients @ down.T)


def matrix_elements(mol: object, functions: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Hamiltonian and overlap (S, S) of functions of two electrons."""
    overlap, repulsion = mol.intor("int1e_ovlp"), mol.intor("int2e")  # type: ignore[attr-defined]
    core = mol.intor("int1e_kin") + mol.intor("int1e_nuc")  # type: ignore[attr-defined]
    energies, overlaps = np.zeros((2, len(functions), len(functions)))
    for i, left in enumerate(functions):
        for j, right in enumerate(functions):
            overlaps[i, j] = np.sum(left * (overlap @ right @ overlap))
            energies[i, j] = np.sum(left * (core @ right @ overlap + overlap @ right @ core))
            energies[i, j] += np.einsum("ij,kl,ikjl", left, right, repulsion, optimize=True)
    return energies, overlaps


@pytest.mark.slow
def test_each_state_alone_starts_lower_than_in_the_orbitals_of_all() -> None:
    helium = molecule("He")
    together, levels = several_states(helium, STATES)
    alone = [one_of_several(helium, state, STATES) for state in range(STATES)]
    assert all(own_levels == levels for _, own_levels in alone)
    functions = [pair_function(together, coefficients) for coefficients in together.coefficients]
    own = [pair_function(expansion, expansion.coefficients) for expansion, _ in alone]
    errors = []
    for set_ in (functions, own):
        energies, overlaps = matrix_elements(together.mol, set_)
        norms = np.sqrt(np.diag(overlaps))
        errors.append(np.diag(energies) / norms**2 - levels[:STATES])
        np.testing.assert_allclose(overlaps / np.outer(norms, norms), np.eye(STATES), atol=2e-3)
    assert all(0 < own < shared for shared, own in zip(*errors, strict=True))
    assert errors[1] == pytest.approx(0, abs=4e-3)
    assert max(errors[1][1:]) < 3e-4  # one electron in 1s, one in 2s: few natural orbitals hold the state
