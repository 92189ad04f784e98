"""Conventional wavefunctions that learned ones start from: Hartree-Fock, and the leading determinants of a CASSCF."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.wavefunctions.hartree_fock import basis_label, mean_field, occupied, reference_molecule, single_thread
from fusion.wavefunctions.periodic import PlaneWaveOrbitals
from fusion.wavefunctions.reference_orbitals import OrbitalReference, ReferenceOrbitals
from fusion.wavefunctions.slater_fit import fit_orbitals

LARGEST_ACTIVE_SPACE = 10
"""Orbitals (252 x 252 determinants, seconds) up to which the full valence space is correlated."""

NEGLIGIBLE = 0.01
"""Coefficients below this are noise of degenerate states, or worth less than what the network learns at once."""


LEARNED_ALONE = 4
"""Largest number of electrons for which `by_size` leaves the orbitals to the network."""


class _Expansion(NamedTuple):
    """Orbitals (nao, n) of PySCF's molecule, and determinants: (K, n_s) per occupied spin, with coefficients (K,).

    `own` are the orbitals of each occupied spin; None if the spins share all.
    """

    name: str
    mol: Any
    orbitals: np.ndarray
    occupations: list[np.ndarray]
    weights: np.ndarray
    own: list[slice] | None = None


class HartreeFockOrbitals(ReferenceOrbitals):
    """Every determinant is that of Hartree-Fock.

    Raises the errors of ``hartree_fock``, and InputError without nuclei.
    """

    def __init__(self, system: System, determinants: int) -> None:
        expansion = _hartree_fock(system)
        super().__init__(*_leading(system, expansion, determinants))
        self.description = expansion.name


class CasscfOrbitals(ReferenceOrbitals):
    """Leading determinants of a complete active space of all valence orbitals.

    They carry the static correlation of near-degenerate orbitals (2s and 2p in beryllium, stretched bonds), which a
    network around a single determinant learns slowly. Atoms whose valence shell is full start at Hartree-Fock, which is
    the same.

    Raises:
        InputError: there are too many valence orbitals, or no basis.
        CalculationError: the CASSCF does not converge.
    """

    def __init__(self, system: System, determinants: int) -> None:
        expansion = _casscf(system)
        super().__init__(*_leading(system, expansion, determinants))
        self.description = expansion.name


def by_size(system: System, determinants: int) -> OrbitalReference | None:
    """Choose the start of a small network: none up to four electrons, CASSCF where its active space is small, else
    Hartree-Fock (measured: benchmarks/vmc_references.md). Raises the errors of ``hartree_fock``.

    An electron gas starts at plane waves.
    """
    if system.is_electron_gas:
        return PlaneWaveOrbitals(system, determinants)
    if system.n_electrons <= LEARNED_ALONE:
        return None
    try:
        return CasscfOrbitals(system, determinants)
    except (InputError, CalculationError):  # too many orbitals, or no convergence: the description tells the start
        return HartreeFockOrbitals(system, determinants)


def _leading(
    system: System, expansion: _Expansion, determinants: int
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], np.ndarray, list[slice] | None]:
    """Leading determinants as ``ReferenceOrbitals`` takes them; copies that share the first's weight fill up."""
    order = np.argsort(-np.abs(expansion.weights), kind="stable")[:determinants]
    order = np.concatenate((order, np.full(determinants - len(order), order[0])))
    copies = np.bincount(order)
    exponents, coefficients = fit_orbitals(system, expansion.mol, expansion.orbitals)
    occupations = [numbers[order] for numbers in expansion.occupations]
    return exponents, coefficients, occupations, expansion.weights[order] / copies[order], expansion.own


def _refuse_gas(system: System, reference: str) -> None:
    if system.is_electron_gas:
        raise InputError(
            f"reference={reference} has orbitals around nuclei; {system.name} has none: reference=by_size starts at "
            "plane waves"
        )


@lru_cache(maxsize=8)
def _hartree_fock(system: System) -> _Expansion:
    _refuse_gas(system, "hartree_fock")
    field = mean_field(system)
    up, down = occupied(field)
    if field.mol.spin == 0:
        numbers = [np.arange(up.shape[1])] * 2
        return _Expansion(_name("RHF", field.mol), field.mol, up, [n[None] for n in numbers if len(n)], np.ones(1))
    numbers = [n for n in (np.arange(up.shape[1]), up.shape[1] + np.arange(down.shape[1])) if len(n)]
    orbitals, own = np.concatenate((up, down), axis=1), [slice(n[0], n[-1] + 1) for n in numbers]
    return _Expansion(_name("UHF", field.mol), field.mol, orbitals, [n[None] for n in numbers], np.ones(1), own)


@lru_cache(maxsize=8)
def _casscf(system: System) -> _Expansion:
    from pyscf import fci, mcscf, scf

    _refuse_gas(system, "casscf")
    with_core = {core.symbol for core in system.cores}
    core = sum(
        _core_orbitals(int(z))
        for z, symbol in zip(system.numbers, system.symbols, strict=True)
        if symbol not in with_core
    )
    active = sum(_valence_orbitals(int(z)) for z in system.numbers)
    if system.n_up - core >= active:  # no empty valence orbital
        return _hartree_fock(system)
    if active > LARGEST_ACTIVE_SPACE:
        raise InputError(
            f"reference=casscf correlates at most {LARGEST_ACTIVE_SPACE} valence orbitals; {system.formula} has "
            f"{active}: choose reference=hartree_fock"
        )
    mol = reference_molecule(system)
    with single_thread(mol):
        field = scf.ROHF(mol)
        field.conv_tol = 1e-10
        field.chkfile = None
        field.kernel()
        cas = mcscf.CASSCF(field, active, (system.n_up - core, system.n_down - core), ncore=core)
        cas.fcisolver = fci.direct_spin1.FCI(mol)
        cas.fcisolver.conv_tol = 1e-11
        cas.canonicalization = False
        cas.natorb = True
        cas.chkfile = None
        cas.kernel()
    if not cas.converged:
        raise CalculationError(
            f"CASSCF of the valence orbitals of {system.formula} did not converge: choose reference=hartree_fock"
        )
    leading = cas.fcisolver.large_ci(cas.ci, active, cas.nelecas, tol=NEGLIGIBLE, return_strs=False)
    weights = np.array([weight for weight, _, _ in leading])
    inner = np.tile(np.arange(core), (len(leading), 1))
    spins = [np.concatenate((inner, core + np.array([row[spin] for row in leading])), axis=1) for spin in (1, 2)]
    orbitals = cas.mo_coeff[:, : core + active]
    name = _name(f"CASSCF({sum(cas.nelecas)},{active})", mol)
    return _Expansion(name, mol, orbitals, [numbers.astype(int) for numbers in spins if numbers.shape[1]], weights)


def _name(method: str, mol: Any) -> str:
    return f"{method}/{basis_label(mol.basis)}"


def _core_orbitals(number: int) -> int:
    """Orbitals of the noble gas below an element."""
    return next(orbitals for above, orbitals in ((18, 9), (10, 5), (2, 1), (0, 0)) if number > above)


def _valence_orbitals(number: int) -> int:
    """s and, from lithium on, p orbitals of the valence shell."""
    return 1 if number <= 2 else 4
