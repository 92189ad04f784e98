"""Correlation added to a Hartree-Fock determinant: second-order perturbation theory and coupled cluster, by PySCF.

C. Moller, M. S. Plesset, Phys. Rev. 46, 618 (1934); G. D. Purvis, R. J. Bartlett, J. Chem. Phys. 76, 1910 (1982);
K. Raghavachari, G. W. Trucks, J. A. Pople, M. Head-Gordon, Chem. Phys. Lett. 157, 479 (1989).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import psutil
from pyscf import cc, mp
from pyscf.cc import ccsd_t_lambda
from pyscf.data.elements import chemcore
from pyscf.grad import ccsd_t as restricted_triples

from fusion.chemistry.system import System
from fusion.config.checks import check_whole
from fusion.console.format import memory
from fusion.errors import CalculationError, InputError
from fusion.methods import protocol
from fusion.runs.results import Result
from fusion.scf.basis import Basis
from fusion_conventional.amplitudes import T2_LIMITS, large_t2, largest_amplitude, out_of_range, t1_diagnostic
from fusion_conventional.excitations import describe, of_coupled_cluster
from fusion_conventional.method import EXCITATIONS, Computed, PySCFMethod
from fusion_conventional.self_consistent import Determinant, semicanonical

_STEPS = 100
_GRADIENT = 0.01
"""Factor on PySCF's tolerance of the orbital gradient: correlation energies have first-order errors in the orbitals."""


class Correlated(PySCFMethod):
    """A method that adds correlation to a Hartree-Fock determinant.

    `frozen_core`: true leaves the orbitals of the noble-gas cores out of the correlation, a number that many of the
    lowest orbitals, false none. The other settings are those of `PySCFMethod` and `Settings`. A solvent is polarised by
    the determinant alone (R. Cammi, Int. J. Quantum Chem. 109, 3040 (2009): the PTE scheme).
    """

    open_shell_determinants = True
    """True if the method can start from a restricted open-shell determinant."""
    fewest_excited = 2
    """Smallest number of correlated electrons for which the method has excitations."""
    amplitudes = 0
    """Number of copies of the doubly excited amplitudes in memory at once."""

    def __init__(self, name: str, basis: Any, frozen_core: bool | int = True, **settings: Any) -> None:
        super().__init__(name, basis, **settings)
        if not isinstance(frozen_core, (bool, int)) or frozen_core < 0:
            raise InputError(f"method.frozen_core must be true, false or a number of orbitals, not {frozen_core!r}")
        if self.settings.reference == "restricted_open" and not self.open_shell_determinants:
            raise InputError(f"method.reference=restricted_open is not for {name}; choose unrestricted")
        self.frozen_core = frozen_core

    @property
    def costly(self) -> frozenset[str]:
        """Forces take several times as long as the energy and are computed only on request."""
        return frozenset({"forces"})

    def _mean_field(self, system: System, basis: Basis) -> Any:
        mean_field = super()._mean_field(system, basis)
        mean_field.conv_tol_grad = _GRADIENT * math.sqrt(self.settings.conv_tol)
        return mean_field

    def _check(self, mean_field: Any, system: System) -> None:
        frozen, occupied = self._frozen(mean_field.mol), mean_field.mol.nelec
        if frozen > min(occupied) or (frozen and frozen == max(occupied)):
            raise InputError(
                f"method.frozen_core={str(self.frozen_core).lower()} would freeze {frozen} orbitals, but in "
                f"{system.formula} only {max(occupied)} hold electrons, {min(occupied)} of them two; false freezes none"
            )

        needed, there = self._bytes(mean_field), psutil.virtual_memory().total
        if needed > there:
            raise InputError(
                f"{self.title} of {system.formula} in {mean_field.mol.nao} basis functions needs about "
                f"{memory(needed)} of memory, and this machine has {memory(there)}; a smaller method.basis needs less"
            )

    def check(self, systems: Sequence[System], properties: Iterable[str] = ()) -> None:
        """Raise InputError as `PySCFMethod.check`, and for excitations of fewer correlated electrons than two, or of
        electrons with parallel spins, for which PySCF's equations of motion fail."""
        super().check(systems, properties)
        for system in systems:
            mol = self._mean_field(system, self._terms[0].basis).mol
            electrons = mol.nelectron - 2 * self._frozen(mol)
            if EXCITATIONS in properties and electrons < self.fewest_excited:
                raise InputError(
                    f"{self.title} correlates {electrons} electron of {system.formula}, and its excitations need "
                    f"{self.fewest_excited}: +method=fci, or method.frozen_core=false"
                )
            if EXCITATIONS in properties and self.fewest_excited > 1 and min(mol.nelec) <= self._frozen(mol):
                raise InputError(
                    f"{self.title} has no excitations of {system.formula}, whose correlated electrons all have the "
                    "same spin: +method=fci, or method.frozen_core=false"
                )

    def memory_needed(self, system: System) -> str:
        """Describe the memory of the amplitudes, in the largest basis."""
        needed = max(self._bytes(self._mean_field(system, term.basis)) for term in self._terms)
        return f"about {memory(needed)} for the amplitudes, beside the integrals"

    def _bytes(self, mean_field: Any) -> int:
        return 8 * self.amplitudes * self._pairs(mean_field)

    def _pairs(self, mean_field: Any) -> int:
        """Number of doubly excited amplitudes: pairs of occupied times pairs of empty orbitals."""
        frozen, mol = self._frozen(mean_field.mol), mean_field.mol
        up, down = ((n - frozen) * (mol.nao - n) for n in mol.nelec)
        return (
            up * down
            if self.settings.reference_of_spin(mol.spin) == "restricted"
            else up * up + up * down + down * down
        )

    def _frozen(self, mol: Any) -> int:
        """Number of orbitals left out of the correlation."""
        if self.frozen_core is True:
            return int(chemcore(mol))
        return int(self.frozen_core)

    def _computed(self, determinant: Determinant, wanted: frozenset[str]) -> Computed:
        mean_field = determinant.mean_field
        frozen = self._frozen(mean_field.mol)
        computed = Computed({"energy": float(mean_field.e_tot)})
        electrons = mean_field.mol.nelectron - 2 * frozen
        if electrons < 2 and EXCITATIONS not in wanted:
            computed.correlation["energy"] = 0.0
            computed.details["correlation"] = {"method": self.title, "energy_hartree": 0.0}
        else:
            self._correlate(mean_field, frozen, wanted, computed)
            computed.details["correlation"] |= {"frozen_orbitals": frozen, "electrons": electrons}
        if "forces" in wanted and computed.failure is None:
            self._split_forces(mean_field, computed)
        return computed

    def _split_forces(self, mean_field: Any, computed: Computed) -> None:
        """Split forces into those of the determinant and of correlation, which are extrapolated separately."""
        if len(self._terms) > 1 or "forces" not in computed.correlation:
            computed.mean_field["forces"] = -np.asarray(mean_field.nuc_grad_method().kernel())
            if "forces" in computed.correlation:
                computed.correlation["forces"] -= computed.mean_field["forces"]
        nuclei = np.flatnonzero(mean_field.mol.atom_charges())
        for part in (computed.mean_field, computed.correlation):
            if "forces" in part:
                part["forces"] = part["forces"][nuclei]

    @abstractmethod
    def _correlate(self, mean_field: Any, frozen: int, wanted: frozenset[str], computed: Computed) -> None:
        """Fill `correlation` of `computed` with the energy and, if wanted, total forces; set details and failure."""


class MollerPlesset(Correlated):
    """Second-order perturbation theory; `density_fit` of restricted determinants applies to it as well."""

    open_shell_determinants = False
    amplitudes = 2

    @property
    def provides(self) -> frozenset[str]:
        """Properties; no forces with density fitting."""
        without = self.settings.density_fit or self.settings.solvent is not None
        return frozenset({"energy"} if without else {"energy", "forces"})

    def _correlate(self, mean_field: Any, frozen: int, wanted: frozenset[str], computed: Computed) -> None:
        solver = mp.MP2(mean_field, frozen=frozen)
        solver.kernel()
        computed.correlation["energy"] = float(solver.e_corr)
        computed.details["correlation"] = {
            "method": self.title,
            "energy_hartree": float(solver.e_corr),
            "same_spin_hartree": float(solver.e_corr_ss),
            "opposite_spin_hartree": float(solver.e_corr_os),
            "largest_t2": largest_amplitude(solver.t2),
        }
        if largest_amplitude(solver.t2) > T2_LIMITS["MP2"]:
            computed.warnings.append(large_t2("MP2", largest_amplitude(solver.t2)))
        if "forces" in wanted:
            computed.correlation["forces"] = -np.asarray(solver.nuc_grad_method().kernel())


class CoupledCluster(Correlated):
    """Coupled cluster with singles and doubles; `triples` adds the perturbative triples.

    The amplitudes converge to the threshold of the determinant, `conv_tol`, in at most `cc_max_cycle` cycles.
    """

    amplitudes = 16  # twelve for six pairs of DIIS, the others for one iteration

    def __init__(
        self, name: str, basis: Any, triples: bool = False, cc_max_cycle: int = _STEPS, **settings: Any
    ) -> None:
        super().__init__(name, basis, **settings)
        check_whole("method.cc_max_cycle", cc_max_cycle)
        self.triples, self.cc_max_cycle = triples, cc_max_cycle

    @property
    def provides(self) -> frozenset[str]:
        """Properties; forces, and excitations without triples, only without density fitting, for restricted and
        unrestricted determinants."""
        without = self.settings.density_fit or self.settings.reference == "restricted_open"
        without = without or self.settings.solvent is not None
        own = frozenset({"energy"} if without else {"energy", "forces"})
        return own if self.triples or without else own | {EXCITATIONS}

    def _calculate(self, system: System, wanted: frozenset[str]) -> Result:
        """Calculate; forces of unrestricted CCSD(T) are left to finite differences of energies.

        PySCF's gradient of it (2.14) is wrong by about 1e-4 hartree/bohr.
        """
        numerical = self.triples and "forces" in wanted and self.settings.reference_of(system) == "unrestricted"
        if not numerical:
            return super()._calculate(system, wanted)
        result = super()._calculate(system, wanted - {"forces"})
        if result.status == "ok":
            try:
                result.properties["forces"] = protocol.numerical_forces(self, system)
            except CalculationError as error:
                result.status, result.message = "not_converged", str(error)
            how = {"from": "energy", "by": "central differences", "step_bohr": protocol.STEP_BOHR}
            result.details["derived"] = {"forces": how}
        return result

    def _correlate(self, mean_field: Any, frozen: int, wanted: frozenset[str], computed: Computed) -> None:
        solver = cc.CCSD(semicanonical(mean_field) if mean_field.istype("ROHF") else mean_field, frozen=frozen)
        solver.max_cycle, solver.conv_tol = self.cc_max_cycle, self.settings.conv_tol
        solver.conv_tol_normt = 0.1 * math.sqrt(self.settings.conv_tol)
        solver.callback, solver.async_io = self._progress(solver), False  # small molecules wait longer for the thread
        integrals = solver.ao2mo()
        solver.kernel(eris=integrals)
        details: dict[str, Any] = {
            "method": self.title,
            "energy_hartree": float(solver.e_corr),
            "cycles": int(solver.cycles),
            "t1_diagnostic": t1_diagnostic(solver),
            "largest_t2": largest_amplitude(solver.t2),
        }
        if isinstance(solver.t1, np.ndarray):
            details["d1_diagnostic"] = float(np.linalg.norm(solver.t1, 2))
        computed.details["correlation"] = details
        computed.correlation["energy"] = float(solver.e_corr)
        if not solver.converged:
            computed.failure = (
                f"the amplitudes of {self.title} did not converge in {solver.cycles} cycles (last correlation energy "
                f"{solver.e_corr:.6f} Ha); try a larger method.cc_max_cycle or method.reference=unrestricted"
            )
            return
        if self.triples:
            triples = float(solver.ccsd_t(eris=integrals))
            computed.correlation["energy"] += triples
            details |= {
                "energy_hartree": computed.correlation["energy"],
                "ccsd_hartree": float(solver.e_corr),
                "triples_hartree": triples,
            }
        computed.warnings += out_of_range(details, np.ndim(mean_field.mo_occ) > 1)
        if "forces" in wanted:
            self._forces(solver, integrals, computed)
        if EXCITATIONS in wanted:
            found, converged = of_coupled_cluster(solver, integrals, self.states - 1)
            energy, multiplicity = float(solver.e_tot), mean_field.mol.spin + 1
            computed.details["excited"] = describe("EOM-CCSD", energy, multiplicity, found)
            computed.correlation[EXCITATIONS] = np.array([excitation.energy for excitation in found])
            if not converged:
                computed.failure = "the excitations by the equation of motion did not converge"

    def _forces(self, solver: Any, integrals: Any, computed: Computed) -> None:
        if self.triples:
            converged, l1, l2 = ccsd_t_lambda.kernel(
                solver,
                integrals,
                solver.t1,
                solver.t2,
                max_cycle=self.cc_max_cycle,
                tol=solver.conv_tol_normt,
                verbose=0,
            )
            gradient = restricted_triples.Gradients(solver)
        else:
            l1, l2 = solver.solve_lambda(eris=integrals)
            converged, gradient = solver.converged_lambda, solver.nuc_grad_method()
        if not converged:
            computed.failure = (
                f"the multipliers of {self.title}, for the forces, did not converge; try a larger method.cc_max_cycle"
            )
            return
        computed.correlation["forces"] = -np.asarray(gradient.kernel(solver.t1, solver.t2, l1, l2, eris=integrals))

    def _progress(self, solver: Any) -> Any:
        watcher = self._watcher

        def after_cycle(envs: dict[str, Any]) -> None:
            energy = solver._scf.e_tot + float(envs["eccsd"])
            watcher(envs["istep"] + 1, f"CCSD  E = {energy:.6f} Ha")

        return after_cycle
