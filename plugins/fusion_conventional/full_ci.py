"""Full configuration interaction, all determinants in a basis, by PySCF's determinant-based solver.

P. J. Knowles, N. C. Handy, Chem. Phys. Lett. 111, 315 (1984). Exact within the basis; a frozen core
stays in its Hartree-Fock orbitals.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final

import numpy as np
from pyscf import fci, mcscf

from fusion.chemistry import spin_states
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.scf.basis import Basis
from fusion_conventional.correlated import Correlated
from fusion_conventional.excitations import describe, of_vectors
from fusion_conventional.method import EXCITATIONS, Computed

_PENALTY: Final = 0.2
"""Penalty in hartree per unit of <S^2> by which a state differs from the requested spin."""
_PURE: Final = 1e-3
"""Largest deviation of <S^2> that counts as none."""
_CYCLES: Final = 200
_ORBITALS: Final = 64


class FullCI(Correlated):
    """Full configuration interaction for the lowest state with S = spin / 2.

    Raises InputError before any work if there are more than `max_determinants` determinants.
    """

    def __init__(self, name: str, basis: Any, max_determinants: float, **settings: Any) -> None:
        super().__init__(name, basis, **settings)
        if self.settings.reference == "unrestricted":
            raise InputError("method.reference=unrestricted changes nothing in full CI; leave it null")
        if not max_determinants >= 1:
            raise InputError(f"method.max_determinants must be at least 1, not {max_determinants}")
        self.max_determinants = max_determinants

    trusts_determinant = False
    fewest_excited = 1

    @property
    def provides(self) -> frozenset[str]:
        """Properties: energy and excitations; forces are finite differences of energies."""
        return frozenset({"energy", EXCITATIONS})

    def _mean_field(self, system: System, basis: Basis) -> Any:
        reference = "restricted_open" if system.spin else "restricted"
        return replace(self.settings, reference=reference).mean_field(system, basis)

    def _check(self, mean_field: Any, system: System) -> None:
        super()._check(mean_field, system)
        mol = mean_field.mol
        orbitals, (up, down) = mol.nao - self._frozen(mol), self._active(mol)
        size = math.comb(orbitals, up) * math.comb(orbitals, down)
        if size > self.max_determinants:
            raise InputError(
                f"full CI of {system.formula} in this basis has {_count(size)} determinants ({up} + {down} electrons "
                f"in {orbitals} orbitals), more than method.max_determinants={_count(self.max_determinants)}; "
                "choose a smaller method.basis, a larger method.frozen_core or +method=ccsd_t"
            )
        if orbitals >= _ORBITALS:
            raise InputError(
                f"full CI of {system.formula} in this basis has {orbitals} orbitals, but PySCF's solver allows fewer "
                f"than {_ORBITALS}; choose a smaller method.basis, or +method=ccsd, which is exact for two electrons"
            )

    def _active(self, mol: Any) -> tuple[int, int]:
        frozen = self._frozen(mol)
        return mol.nelec[0] - frozen, mol.nelec[1] - frozen

    def _correlate(self, mean_field: Any, frozen: int, wanted: frozenset[str], computed: Computed) -> None:
        electrons = self._active(mean_field.mol)
        orbitals = mean_field.mo_coeff.shape[1] - frozen
        space = mcscf.CASCI(mean_field, orbitals, electrons)
        one_electron, constant = space.get_h1eff()
        spin = 0.5 * (electrons[0] - electrons[1])
        solver = fci.addons.fix_spin_(fci.direct_spin1.FCI(), _PENALTY, ss=spin * (spin + 1.0))
        solver.conv_tol, solver.max_cycle, solver.verbose = 0.1 * self.settings.conv_tol, _CYCLES, 0
        two_electron = space.get_h2eff()
        energy, vector = solver.kernel(one_electron, two_electron, orbitals, electrons, ecore=constant)
        spin_squared = float(fci.spin_op.spin_square(vector, orbitals, electrons)[0])
        difference = float(energy) - float(mean_field.e_tot)
        computed.details["correlation"] = {
            "method": self.title,
            "energy_hartree": difference,
            "determinants": int(vector.size),
            "orbitals": orbitals,
            "spin_squared": spin_squared,
            "weight_of_largest": float(abs(vector).max() ** 2),
        }
        computed.correlation["energy"] = difference
        if EXCITATIONS in wanted:
            self._excite(space, (one_electron, two_electron, constant), electrons, float(energy), computed)
        if not solver.converged:
            computed.failure = f"the eigenvector of full CI did not converge in {_CYCLES} cycles"
        elif abs(spin_squared - spin * (spin + 1.0)) > _PURE:
            computed.failure = (
                f"full CI ended in a state with <S^2> = {spin_squared:.3f} instead of {spin * (spin + 1.0):.3f}"
            )

    def _excite(
        self,
        space: Any,
        integrals: tuple[Any, Any, float],
        electrons: tuple[int, int],
        ground: float,
        computed: Computed,
    ) -> None:
        """Add the lowest states of all multiplicities with this number of unpaired electrons."""
        one_electron, two_electron, constant = integrals
        solver = fci.direct_spin1.FCI()
        solver.nroots, solver.conv_tol, solver.max_cycle, solver.verbose = self.states, 1e-9, _CYCLES, 0
        solver.max_space = 12 + 3 * self.states
        energies, vectors = solver.kernel(one_electron, two_electron, space.ncas, electrons, ecore=constant)
        energies = np.atleast_1d(energies)
        orbitals = space.mo_coeff[:, space.ncore :]
        positions = space.mol.intor_symmetric("int1e_r", comp=3)
        dipole = np.einsum("pi,xpq,qj->xij", orbitals, positions, orbitals, optimize=True)
        multiplicity, found = of_vectors(energies, list(vectors), dipole, electrons)
        computed.details["excited"] = describe(self.title, float(energies[0]), multiplicity, found)
        computed.correlation[EXCITATIONS] = energies[1:] - energies[0]
        if not np.all(solver.converged):
            computed.failure = f"the eigenvectors of full CI did not converge in {_CYCLES} cycles"
        elif energies[0] < ground - 1e-6:
            computed.warnings.append(
                f"the lowest state is a {spin_states.name(multiplicity)}, below the state of system.spin"
            )


def _count(size: float) -> str:
    return f"{size:,.0f}" if size < 1e7 else f"{size:.1e}"
