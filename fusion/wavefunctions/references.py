"""Conventional wavefunctions that learned ones start from: Hartree-Fock, and configuration interaction."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np

from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.wavefunctions.hartree_fock import mean_field, occupied
from fusion.wavefunctions.interaction import Expansion, interaction, label_of
from fusion.wavefunctions.periodic import PlaneWaveOrbitals
from fusion.wavefunctions.reference_orbitals import OrbitalReference, ReferenceOrbitals
from fusion.wavefunctions.slater_fit import SMALLEST, fit_orbitals
from fusion.wavefunctions.state_interaction import one_of_several, several_states

LEARNED_ALONE, LEARNED_SINGLE = 3, 4
"""Largest numbers of electrons for which `by_size` leaves the orbitals to the network: always, and if one determinant
dominates."""

DOMINANT = 0.95
"""Share of the leading determinant (LiH 0.97, beryllium 0.91) above which there is no near-degeneracy."""


SMALLEST_EXPONENT = 0.15
"""Smallest exponent, 1/bohr, of the orbitals of excited states, which are more extended than those of ground states."""


class HartreeFockOrbitals(ReferenceOrbitals):
    """One determinant, that of Hartree-Fock.

    Raises the errors of ``hartree_fock``, and InputError without nuclei.
    """

    def __init__(self, system: System, states: int = 1, pure_spin: bool = False, state: int | None = None) -> None:
        if states > 1:
            raise InputError("reference=hartree_fock has one state; method.states needs reference=ci")
        super().__init__(*_fitted(system, _hartree_fock(system)))
        self.description = _hartree_fock(system).name


class ConfigurationInteraction(ReferenceOrbitals):
    """Leading strings of a full configuration interaction of the valence electrons in few natural orbitals.

    A molecule whose electrons fill more orbitals than an active space has starts at Hartree-Fock.

    The orbitals are the natural ones of a configuration interaction with single and double excitations. The expansion
    carries the static correlation of near-degenerate orbitals (2s and 2p in beryllium, stretched bonds), and better
    nodes than a single determinant.

    With `states` > 1, these are the lowest states of all multiplicities with the system's number of unpaired electrons
    or more, in the natural orbitals of their mean density in a basis with diffuse functions. `levels` has their
    energies (hartree) and a few more. With `pure_spin`, they all have the spin of that number of electrons. With
    `state`, this is that one of them alone, in natural orbitals of its own.

    Raises:
        InputError: there is no basis, or there are fewer states.
        CalculationError: no convergence.
    """

    def __init__(self, system: System, states: int = 1, pure_spin: bool = False, state: int | None = None) -> None:
        _refuse_gas(system, "ci")
        self.levels: tuple[float, ...] = ()
        if states == 1:
            expansion, smallest = interaction(system), SMALLEST
        else:
            smallest = SMALLEST_EXPONENT
            if state is None:
                expansion, self.levels = several_states(system, states, pure_spin)
            else:
                expansion, self.levels = one_of_several(system, state, states, pure_spin)
        super().__init__(*_fitted(system, expansion, smallest))
        self.description = expansion.name


def by_size(
    system: System, states: int = 1, pure_spin: bool = False, state: int | None = None
) -> OrbitalReference | None:
    """Choose the start of a small network: none for up to three electrons, and for four if one determinant
    dominates; else configuration interaction, or Hartree-Fock where this does not converge.

    An electron gas starts at plane waves; several states always start at configuration interaction. Raises the errors
    of ``hartree_fock``.
    """
    if states > 1:
        return ConfigurationInteraction(system, states, pure_spin, state)
    if system.is_electron_gas:
        return PlaneWaveOrbitals(system)
    if system.n_electrons <= LEARNED_ALONE:
        return None
    try:
        reference = ConfigurationInteraction(system)
    except CalculationError:  # no convergence, as in molecules far from equilibrium: the description tells the start
        return HartreeFockOrbitals(system)
    leading = float((reference.weights**2).max() / (reference.weights**2).sum())
    return None if system.n_electrons <= LEARNED_SINGLE and leading > DOMINANT else reference


def _fitted(
    system: System, expansion: Expansion, smallest: float = SMALLEST
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], np.ndarray, list[slice] | None]:
    """Arguments of ``ReferenceOrbitals``."""
    exponents, coefficients = fit_orbitals(system, expansion.mol, expansion.orbitals, smallest)
    return exponents, coefficients, expansion.strings, expansion.coefficients, expansion.own


def _refuse_gas(system: System, reference: str) -> None:
    if system.is_electron_gas:
        raise InputError(
            f"reference={reference} has orbitals around nuclei; {system.name} has none: reference=by_size starts at "
            "plane waves"
        )


@lru_cache(maxsize=8)
def _hartree_fock(system: System) -> Expansion:
    _refuse_gas(system, "hartree_fock")
    field = mean_field(system)
    up, down = occupied(field)
    name = label_of("RHF" if field.mol.spin == 0 else "UHF", field.mol)
    strings = [np.arange(own.shape[1])[None] for own in (up, down) if own.shape[1]]
    if field.mol.spin == 0:
        return Expansion(name, field.mol, up, strings, np.ones((1, 1)))
    ends = np.cumsum([0, *(own.shape[1] for own in strings)])
    own = [slice(first, last) for first, last in pairwise(ends)]
    return Expansion(name, field.mol, np.concatenate((up, down), axis=1), strings, np.ones((1, 1)), own)
