"""Hartree-Fock and Kohn-Sham: energies, forces, dipoles, Hessians and polarizabilities of determinants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from pyscf.dft import libxc

from fusion.chemistry.system import System
from fusion.config.checks import check_switch
from fusion.errors import InputError
from fusion.functionals.scf.dispersion import dispersion as d3
from fusion.scf.populations import POPULATIONS, populations
from fusion_conventional import basis_limit
from fusion_conventional.excitations import describe, is_stable, of_determinant
from fusion_conventional.field import dipole_derivatives
from fusion_conventional.method import EXCITATIONS, Computed, PySCFMethod, Quantities
from fusion_conventional.response import polarizability, second_derivatives
from fusion_conventional.self_consistent import Determinant

_STEP: Final = 1e-3
"""Displacement in bohr for the second derivatives of the dispersion energy."""


class MeanField(PySCFMethod):
    """`Method` of a Hartree-Fock or, with `xc`, a Kohn-Sham determinant.

    `dispersion="d3bj"` adds D3(BJ) with the functional's parameters; `tda` leaves de-excitations out of excited states
    (CIS); the other settings are those of `PySCFMethod` and
    `Settings`. Raises InputError for invalid values.
    """

    def __init__(self, name: str, basis: Any, dispersion: str | None = None, tda: bool = True, **settings: Any) -> None:
        super().__init__(name, basis, **settings)
        check_switch("method.tda", tda)
        self._tda = tda
        if dispersion not in (None, "d3bj"):
            raise InputError(f"method.dispersion={dispersion!r} is unknown; use d3bj, or null for none")
        if self.settings.xc is not None and len(self._terms) > 1:
            raise InputError(
                f"method.basis={self.basis}: energies of density functionals have no known limit to extrapolate to; "
                "choose one basis; def2-qzvp is near the limit"
            )
        self._d3 = None if dispersion is None else (self.settings.xc or "hf").lower()
        if self._d3 is not None:
            d3([1], np.zeros((1, 3)), self._d3)

    @property
    def label(self) -> str:
        """Label of runs."""
        name = "HF" if self.settings.xc is None else self.settings.xc
        return f"{name}{'' if self._d3 is None else '-D3(BJ)'}/{basis_limit.title(self.basis)}{self._in_solvent}"

    @property
    def provides(self) -> frozenset[str]:
        """Properties; responses only for restricted and unrestricted determinants without non-local correlation.

        Responses to nuclei neglect the motion of the grid. With functionals of the kinetic energy density (r2SCAN,
        M06-2X) the error is up to 0.2 hartree/bohr^2 on usual grids; their Hessians are left to finite differences, and
        so are those in a solvent.
        """
        xc = self.settings.xc
        analytic = frozenset({"energy", "forces", "dipole"}) | POPULATIONS
        if self.settings.reference != "restricted_open" and not (xc is not None and libxc.is_nlc(xc)):
            analytic |= {EXCITATIONS}
        if self.settings.solvent is not None:  # the charges on the surface would have to respond as well
            return analytic
        if self.settings.reference == "restricted_open" or (xc is not None and libxc.is_nlc(xc)):
            return analytic
        if xc is not None and libxc.is_meta_gga(xc):
            return analytic | {"dipole_derivatives", "polarizability"}
        return analytic | {"hessian", "dipole_derivatives", "polarizability"}

    def check(self, systems: Sequence[System], properties: Iterable[str] = ()) -> None:
        """Raise InputError as `PySCFMethod.check`, and for excitations of one electron."""
        super().check(systems, properties)
        for system in systems:
            if EXCITATIONS in properties and system.n_electrons == 1:
                raise InputError(f"{system.formula} has one electron: its excited states are exact with +method=fci")

    def _check(self, mean_field: Any, system: System) -> None:
        if self._d3 is not None:
            d3(system.numbers, system.positions, self._d3)

    def _computed(self, determinant: Determinant, wanted: frozenset[str]) -> Computed:
        mean_field = determinant.mean_field
        computed = Computed({"energy": float(mean_field.e_tot), **properties(mean_field, wanted)})
        if EXCITATIONS in wanted:
            self._excite(mean_field, computed)
        return computed

    def _excite(self, mean_field: Any, computed: Computed) -> None:
        found, converged = of_determinant(mean_field, self.states - 1, self._tda, self.settings.solvent)
        if not self._tda and not is_stable(mean_field):
            computed.warnings.append(
                "the determinant is unstable: its response has imaginary energies, which are left out; method.tda=true "
                "has real ones"
            )
        names = ("CIS", "TDHF") if self.settings.xc is None else ("TDDFT, Tamm-Dancoff", "TDDFT")
        energy, multiplicity = float(mean_field.e_tot), mean_field.mol.spin + 1
        computed.details["excited"] = describe(names[not self._tda], energy, multiplicity, found)
        computed.mean_field[EXCITATIONS] = np.array([excitation.energy for excitation in found])
        if not converged:
            computed.failure = "the excitations did not converge"

    def _beside(self, system: System, name: str) -> Any:
        if self._d3 is None or name not in _DISPERSION:
            return 0.0
        return _DISPERSION[name](system, self._d3)

    def _details(self, system: System, computed: Sequence[Computed]) -> dict[str, Any]:
        details = super()._details(system, computed)
        if self._d3 is not None:
            energy = d3(system.numbers, system.positions, self._d3)[0]
            details["scf"]["dispersion_hartree"] = energy
            for state in details.get("excited", {}).get("states", ()):
                state["energy_hartree"] += energy
        return details


def properties(mean_field: Any, wanted: frozenset[str]) -> Quantities:
    """Properties of a converged determinant by name, in atomic units, without ghost atoms."""
    nuclei = np.flatnonzero(mean_field.mol.atom_charges())
    values: Quantities = {}
    if "dipole" in wanted:
        values["dipole"] = np.asarray(mean_field.dip_moment(unit="AU", verbose=0))
    values |= populations(mean_field, wanted)
    if "forces" in wanted:
        gradient = mean_field.nuc_grad_method()
        # Without the grid's response, forces are not the derivatives of the energy on a finite grid. The cost of
        # the response of non-local correlation grows with the square of the grid.
        gradient.grid_response = not (hasattr(mean_field, "xc") and libxc.is_nlc(mean_field.xc))
        values["forces"] = -np.asarray(gradient.kernel())[nuclei]
    if "hessian" in wanted:
        values |= second_derivatives(mean_field, True, "dipole_derivatives" in wanted)
    elif "dipole_derivatives" in wanted:
        values["dipole_derivatives"] = dipole_derivatives(mean_field)
    if "polarizability" in wanted:
        values["polarizability"] = polarizability(mean_field)
    return values


def _dispersion_energy(system: System, functional: str) -> float:
    return d3(system.numbers, system.positions, functional)[0]


def _dispersion_forces(system: System, functional: str) -> np.ndarray:
    return -d3(system.numbers, system.positions, functional)[1]


def _dispersion_hessian(system: System, functional: str) -> np.ndarray:
    """Hessian (3A, 3A), hartree/bohr^2, by central differences of the analytic gradient."""
    rows = []
    for index in range(system.positions.size):
        step = np.zeros(system.positions.shape)
        step.flat[index] = _STEP
        ahead, behind = (d3(system.numbers, system.positions + sign * step, functional)[1] for sign in (1, -1))
        rows.append((ahead - behind).ravel() / (2.0 * _STEP))
    hessian = np.array(rows)
    return 0.5 * (hessian + hessian.T)


_DISPERSION: Final = {
    "energy": _dispersion_energy,
    "forces": _dispersion_forces,
    "hessian": _dispersion_hessian,
}
