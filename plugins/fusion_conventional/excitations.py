"""Vertical excitations by PySCF: CIS and TDHF, TDDFT, EOM-CCSD, and further roots of full CI.

J. B. Foresman, M. Head-Gordon, J. A. Pople, M. J. Frisch, J. Phys. Chem. 96, 135 (1992); M. E. Casida, in Recent
Advances in Density Functional Methods I, 155 (1995); J. F. Stanton, R. J. Bartlett, J. Chem. Phys. 98, 7029 (1993).
States are those with the number of unpaired electrons of the system: one of the components of a multiplet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fusion.chemistry.units import EV_PER_HARTREE
from fusion.scf.solvent import Solvent, fast_response

SAME_LEVEL = 1e-5
"""Difference (hartree) of energies below which states with the same multiplicity belong to one level."""


class Excitation(NamedTuple):
    """Energy above the ground state (hartree), multiplicity and oscillator strength, None where unknown."""

    energy: float
    multiplicity: int | None = None
    strength: float | None = None


def of_determinant(
    mean_field: Any, number: int, tda: bool, solvent: Solvent | None = None
) -> tuple[list[Excitation], bool]:
    """Lowest `number` excitations of a converged determinant, and whether all of them converged.

    `tda` leaves out de-excitations: CIS for Hartree-Fock. Those of a closed shell are singlets and triplets; those of
    an open shell have no definite spin. Imaginary ones of an unstable determinant are left out. Of a solvent, only the
    electrons follow an excitation; its nuclei stay.
    """
    closed = np.ndim(mean_field.mo_occ) == 1
    found, converged = [], True
    for singlet in (True, False) if closed else (None,):
        response = (
            mean_field.TDA() if tda else mean_field.TDHF() if not hasattr(mean_field, "xc") else mean_field.TDDFT()
        )
        if solvent is not None:
            fast_response(response, solvent)
        response.nstates, response.verbose, response.conv_tol = _roots(mean_field, number), 0, 1e-7
        if singlet is not None:
            response.singlet = singlet
        energies, _ = response.kernel()
        converged = converged and bool(np.all(response.converged))
        # A triplet has no oscillator strength without spin-orbit coupling; PySCF computes none for it.
        strengths = np.zeros(len(energies)) if singlet is False else response.oscillator_strength()
        multiplicity = None if singlet is None else 1 if singlet else 3
        found += [Excitation(float(e), multiplicity, float(f)) for e, f in zip(energies, strengths, strict=True)]
    return sorted(found, key=lambda excitation: excitation.energy)[:number], converged


def is_stable(mean_field: Any) -> bool:
    """True if all full-response energies of a determinant are real: it is a minimum among determinants of its kind, and
    a closed shell among those of open shells as well."""
    closed = np.ndim(mean_field.mo_occ) == 1
    _, _, internal, external = mean_field.stability(external=closed, return_status=True, verbose=0)
    return bool(internal) and (not closed or bool(external))


def of_coupled_cluster(solver: Any, integrals: Any, number: int) -> tuple[list[Excitation], bool]:
    """Lowest `number` excitations of converged CCSD amplitudes by the equation of motion, without strengths."""
    from pyscf.cc import eom_rccsd, eom_uccsd

    solvers: list[tuple[Any, int | None]]
    if isinstance(solver.t1, np.ndarray):
        solvers = [(eom_rccsd.EOMEESinglet(solver), 1), (eom_rccsd.EOMEETriplet(solver), 3)]
    else:
        solvers = [(eom_uccsd.EOMEESpinKeep(solver), None)]
    found, converged = [], True
    for equation, multiplicity in solvers:
        equation.verbose, equation.max_cycle = 0, 200
        equation.kernel(nroots=min(number, equation.vector_size()), eris=integrals)
        converged = converged and bool(np.all(equation.converged))
        found += [Excitation(float(energy), multiplicity) for energy in np.atleast_1d(equation.e)]
    return sorted(found, key=lambda excitation: excitation.energy)[:number], converged


def of_vectors(
    energies: np.ndarray, vectors: Sequence[np.ndarray], dipole: np.ndarray, electrons: tuple[int, int]
) -> tuple[int, list[Excitation]]:
    """Multiplicity of the first of several full-CI vectors, and the excitations to the others.

    `dipole` (3, n, n) are the integrals of the position over the orbitals, bohr.
    """
    from pyscf import fci

    orbitals = dipole.shape[1]
    spins = [round(float(fci.spin_op.spin_square(vector, orbitals, electrons)[1])) for vector in vectors]
    found = []
    for energy, vector, multiplicity in list(zip(energies, vectors, spins, strict=True))[1:]:
        density = fci.direct_spin1.trans_rdm1(vectors[0], vector, orbitals, electrons)
        moment = np.einsum("xij,ji->x", dipole, density)
        gap = float(energy - energies[0])
        found.append(Excitation(gap, multiplicity, 2 / 3 * gap * float(moment @ moment)))
    return spins[0], found


def describe(method: str, ground: float, multiplicity: int, excitations: Sequence[Excitation]) -> dict[str, Any]:
    """`excited` of a result: levels with their number of states, and transitions from the lowest."""
    levels: list[list[Excitation]] = []
    for excitation in excitations:
        last = levels[-1][-1] if levels else None
        same = last is not None and excitation.multiplicity == last.multiplicity
        if last is not None and same and excitation.energy - last.energy < SAME_LEVEL:
            levels[-1].append(excitation)
        else:
            levels.append([excitation])
    states: list[dict[str, Any]] = [{"states": 1, "energy_hartree": ground, "multiplicity": multiplicity}]
    transitions = []
    for number, level in enumerate(levels, 1):
        gap = float(np.mean([excitation.energy for excitation in level]))
        state = {"states": len(level), "energy_hartree": ground + gap, "gap_ev": gap * EV_PER_HARTREE}
        states.append(state | ({} if level[0].multiplicity is None else {"multiplicity": level[0].multiplicity}))
        strengths = [excitation.strength for excitation in level if excitation.strength is not None]
        if strengths:
            energy = gap * EV_PER_HARTREE
            transitions.append({"from": 0, "to": number, "energy_ev": energy, "oscillator_strength": sum(strengths)})
    return {"method": method, "states": states, "transitions": transitions}


def _roots(mean_field: Any, number: int) -> int:
    """Number of roots: no more than there are single excitations."""
    occupations = np.atleast_2d(mean_field.mo_occ)
    singles = sum(int((own > 0).sum() * (own == 0).sum()) for own in occupations)
    return min(number, singles)
