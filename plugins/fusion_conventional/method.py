"""Base of all methods on PySCF: one calculation per system, extrapolation, restart from the last density."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fusion.chemistry import energy_zeros
from fusion.chemistry.system import System
from fusion.config.checks import check_whole
from fusion.errors import InputError
from fusion.methods.about import About
from fusion.runs.results import Result
from fusion.runs.warning_summary import kind
from fusion.scf import fitting
from fusion.scf.basis import Basis
from fusion.scf.basis import read as read_basis
from fusion.scf.ghosts import parsed_ghosts
from fusion.scf.initial_guess import LastDensity
from fusion.scf.instability import Analysed, Analyses
from fusion.scf.progress import Watched
from fusion.scf.solvent import check_optical
from fusion.scf.solvent import describe as describe_solvent
from fusion_conventional import basis_limit
from fusion_conventional.self_consistent import Determinant, Settings, converge, reference_title

EXCITATIONS = "excitations"
"""Property: energies above the ground state, hartree; `excited` in the details describes them."""

Quantities = dict[str, Any]
"""Energy (hartree) and properties in atomic units, by name."""


@dataclass
class Computed:
    """Result in one basis set: quantities of the mean field, and contributions of correlation."""

    mean_field: Quantities
    correlation: Quantities = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    failure: str | None = None


class PySCFMethod(Watched, ABC):
    """`Method` of kind conventional on PySCF; further keywords are those of `Settings`.

    `basis` is PySCF's name, a mapping from elements to such names, or two adjacent sets as in `basis_limit.terms`;
    `states` is the number of states of task=excited. The SCF starts from the last density if that belongs to a similar
    geometry of the same molecule.
    """

    kind = "conventional"
    energy_zero = energy_zeros.TOTAL
    trusts_determinant = True
    """True if the result is wrong for a determinant that is not the lowest."""

    def __init__(
        self,
        name: str,
        basis: Any,
        about: About | Mapping[str, Any] | None = None,
        ghosts: Any = None,
        states: int = 1,
        **settings: Any,
    ) -> None:
        check_whole("method.states", states, 1)
        self.states = states
        self.name, self.about = name, About.read(about)
        self.title = self.about.title or name
        self.basis = read_basis(basis)
        self._terms = basis_limit.terms(self.basis)
        self.settings = Settings(ghosts=parsed_ghosts(ghosts), **settings)
        self._last: dict[str, LastDensity] = {}
        self._analyses = Analyses()
        self._checked: dict[str, Analysed] = {}
        """Last geometry, by basis, whose determinant was checked to be the lowest of its kind."""

    @property
    def label(self) -> str:
        """Label of runs."""
        return f"{self.title}/{basis_limit.title(self.basis)}{self._in_solvent}"

    @property
    def _in_solvent(self) -> str:
        solvent = self.settings.solvent
        return "" if solvent is None else f" in {solvent}"

    @property
    @abstractmethod
    def provides(self) -> frozenset[str]:
        """Properties that PySCF computes analytically with these settings."""

    def _mean_field(self, system: System, basis: Basis) -> Any:
        """PySCF's mean-field object, not yet converged."""
        return self.settings.mean_field(system, basis)

    @abstractmethod
    def _computed(self, determinant: Determinant, wanted: frozenset[str]) -> Computed:
        """Quantities from a converged determinant."""

    def check(self, systems: Sequence[System], properties: Iterable[str] = ()) -> None:
        """Raise InputError for an invalid basis or system, or excited states without their number."""
        if EXCITATIONS in properties:
            self._check_states()
        for system in systems:
            for term in self._terms:
                self._check(self._mean_field(system, term.basis), system)

    def _check_states(self) -> None:
        """Raise InputError unless there are several states, and one basis."""
        if self.states < 2:
            raise InputError(
                "excited states need their number, the ground state included: method.states=3, for example"
            )
        if len(self._terms) > 1:
            raise InputError(f"method.basis={self.basis}: excited states are not extrapolated; choose one basis")
        if self.settings.solvent is not None:
            check_optical(self.settings.solvent)

    @abstractmethod
    def _check(self, mean_field: Any, system: System) -> None:
        """Raise InputError if the method cannot compute this molecule."""

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        """One result per system: forces (A, 3), dipole (3,), Hessian (3A, 3A), ... in atomic units."""
        wanted = frozenset(properties)
        self.check(systems, wanted)
        return [self._calculate(system, wanted) for system in systems]

    def _calculate(self, system: System, wanted: frozenset[str]) -> Result:
        # References of a system do not apply in a solvent.
        result = Result(system if self.settings.solvent is None else replace(system, reference=None))
        computed = []
        for term in self._terms:
            in_basis = self._in_basis(system, term.basis, wanted)
            if in_basis.failure is not None:
                result.status, result.message, result.details = "not_converged", in_basis.failure, in_basis.details
                result.warnings = in_basis.warnings
                last = in_basis.mean_field["energy"] + in_basis.correlation.get("energy", 0.0)
                result.energy = None if len(self._terms) > 1 else last
                return result
            computed.append(in_basis)
        values = _combined(computed, self._terms)
        values = {name: value + self._beside(system, name) for name, value in values.items()}
        result.energy = float(values.pop("energy"))
        result.properties.update({name: np.asarray(value) for name, value in values.items()})
        result.details = self._details(system, computed)
        result.warnings = list({kind(text): text for in_basis in computed for text in in_basis.warnings}.values())
        return result

    def _beside(self, system: System, name: str) -> Any:
        """Contribution to a quantity from outside the wavefunction, such as dispersion."""
        return 0.0

    def _details(self, system: System, computed: Sequence[Computed]) -> dict[str, Any]:
        details = dict(computed[-1].details)
        if len(computed) > 1:
            details["basis_limit"] = {
                "bases": [str(term.basis) for term in self._terms],
                "mean_field_hartree": [in_basis.mean_field["energy"] for in_basis in computed],
                "correlation_hartree": [in_basis.correlation.get("energy", 0.0) for in_basis in computed],
                "limit_mean_field_hartree": _sum("mean_field", computed, self._terms),
                "limit_correlation_hartree": _sum("correlation", computed, self._terms),
                "mean_field_by": "A (L + 1) exp(-9 sqrt(L)), Karton and Martin 2006",
                "correlation_by": "A L^-3, Helgaker et al. 1997",
            }
        return details

    remembers = True

    def memory(self) -> dict[str, Any]:
        """Densities that the next SCF may start from, by basis, and the last stability analyses."""
        densities = {basis: last.packed() for basis, last in self._last.items()}
        checked = {basis: last.packed() for basis, last in self._checked.items()}
        return {"densities": densities, "checked": checked, "analyses": self._analyses.packed()}

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Restore the densities and analyses that `memory` returned."""
        self._last = {basis: LastDensity.unpacked(packed) for basis, packed in memory.get("densities", {}).items()}
        self._checked = {basis: Analysed.unpacked(fields) for basis, fields in memory.get("checked", {}).items()}
        self._analyses.recall(memory.get("analyses", {}))

    def _in_basis(self, system: System, basis: Basis, wanted: frozenset[str]) -> Computed:
        mean_field = self._mean_field(system, basis)
        last, state = self._last.get(str(basis)), (str(basis), system.charge, system.spin)
        density, begun, check = None, "atoms", self.settings.stability
        if last is not None and last.suits(mean_field.mol, state):
            density, begun = last.on(mean_field.mol), "the last density"
            checked = self._checked.get(str(basis))
            if check is None and checked is not None and checked.holds_for(mean_field.mol, state):
                check = False
        determinant = converge(mean_field, density, begun, check, self._watcher)
        failure = determinant.failure()
        if failure is not None:
            self._last.pop(str(basis), None)
            details = {"scf": determinant.describe(str(basis))}
            return Computed({"energy": float(mean_field.e_tot)}, details=details, failure=failure)
        self._last[str(basis)] = LastDensity.of(mean_field, state)
        if check is not False:
            self._checked[str(basis)] = Analysed.of(mean_field.mol, state)
        closed = reference_title(mean_field) in ("RHF", "RKS")
        if closed and self.trusts_determinant and self.settings.stability is not False:
            title = self.settings.xc or "Hartree–Fock"
            determinant.warnings += self._analyses.warnings(mean_field, title, state)
        computed = self._computed(determinant, wanted)
        described = determinant.describe(str(basis)) | fitting.describe(mean_field)
        computed.details = {"scf": described, **computed.details}
        if self.settings.solvent is not None:
            computed.details["solvent"] = describe_solvent(mean_field, self.settings.solvent)
        computed.warnings = [*determinant.warnings, *computed.warnings]
        return computed


def _sum(part: str, computed: Sequence[Computed], terms: Sequence[basis_limit.Term]) -> float:
    """Weighted sum over the basis sets of the energies of one part, mean_field or correlation."""
    pairs = zip(computed, terms, strict=True)
    return float(sum(getattr(term, part) * getattr(in_basis, part).get("energy", 0.0) for in_basis, term in pairs))


def _combined(computed: Sequence[Computed], terms: Sequence[basis_limit.Term]) -> Quantities:
    """Sum over the basis sets of weighted mean-field and correlation parts."""
    total: Quantities = {}
    for in_basis, term in zip(computed, terms, strict=True):
        for part, weight in ((in_basis.mean_field, term.mean_field), (in_basis.correlation, term.correlation)):
            for name, value in part.items():
                total[name] = total.get(name, 0.0) + weight * np.asarray(value)
    return total
