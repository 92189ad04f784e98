"""What all methods on PySCF share: one calculation per system, extrapolation, restart from the last density."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fusion.chemistry import energy_zeros
from fusion.chemistry.system import System
from fusion.runs.results import Result
from fusion.runs.warning_summary import kind
from fusion.scf.basis import Basis
from fusion.scf.basis import read as read_basis
from fusion.scf.initial_guess import LastDensity
from fusion.scf.instability import Analyses
from fusion.scf.progress import Watched
from fusion_conventional import basis_limit
from fusion_conventional.molecules import parsed_ghosts
from fusion_conventional.self_consistent import Determinant, Settings, converge, reference_title

Quantities = dict[str, Any]
"""Energy (hartree) and properties in atomic units, by name."""


@dataclass
class Computed:
    """One calculation in one basis set: what the mean field gives, and what correlation adds to it."""

    mean_field: Quantities
    correlation: Quantities = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    failure: str | None = None


class PySCFMethod(Watched, ABC):
    """`Method` of kind conventional on PySCF; the keywords that have no name here are those of `Settings`.

    `basis` is PySCF's name, a mapping from elements to such names, or two adjacent sets as in `basis_limit.terms`. The
    SCF of a molecule that was just
    converged nearby starts from that density.
    """

    kind = "conventional"
    energy_zero = energy_zeros.TOTAL
    trusts_determinant = True
    """True if a determinant that is not the lowest spoils the result."""

    def __init__(
        self,
        name: str,
        title: str,
        basis: Any,
        summary: str = "",
        cost: str = "",
        gives: str = "",
        ghosts: Any = None,
        **settings: Any,
    ) -> None:
        self.name, self.title, self.summary, self.cost = name, title, summary, cost
        self.basis = read_basis(basis)
        self._terms = basis_limit.terms(self.basis)
        self.settings = Settings(ghosts=parsed_ghosts(ghosts), **settings)
        self._last: dict[str, LastDensity] = {}
        self._analyses = Analyses()

    @property
    def label(self) -> str:
        """What a run is called after."""
        return f"{self.title}/{basis_limit.title(self.basis)}"

    @property
    @abstractmethod
    def provides(self) -> frozenset[str]:
        """What PySCF has analytically with these settings."""

    def _mean_field(self, system: System, basis: Basis) -> Any:
        """PySCF's object, not yet converged."""
        return self.settings.mean_field(system, basis)

    @abstractmethod
    def _computed(self, determinant: Determinant, wanted: frozenset[str]) -> Computed:
        """What follows from a converged determinant."""

    def check(self, systems: Sequence[System], properties: Iterable[str] = ()) -> None:
        """Raise InputError for a basis or system that cannot be had."""
        for system in systems:
            for term in self._terms:
                self._check(self._mean_field(system, term.basis), system)

    @abstractmethod
    def _check(self, mean_field: Any, system: System) -> None:
        """Raise InputError for what the method cannot do with this molecule."""

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        """One result per system: forces (A, 3), dipole (3,), Hessian (3A, 3A), ... in atomic units."""
        wanted = frozenset(properties)
        self.check(systems, wanted)
        return [self._calculate(system, wanted) for system in systems]

    def _calculate(self, system: System, wanted: frozenset[str]) -> Result:
        result = Result(system)
        computed = []
        for term in self._terms:
            one = self._in_basis(system, term.basis, wanted)
            if one.failure is not None:
                result.status, result.message, result.details = "not_converged", one.failure, one.details
                result.warnings = one.warnings
                last = one.mean_field["energy"] + one.correlation.get("energy", 0.0)
                result.energy = None if len(self._terms) > 1 else last
                return result
            computed.append(one)
        values = _combined(computed, self._terms)
        values = {name: value + self._beside(system, name) for name, value in values.items()}
        result.energy = float(values.pop("energy"))
        result.properties.update({name: np.asarray(value) for name, value in values.items()})
        result.details = self._details(system, computed)
        result.warnings = list({kind(text): text for one in computed for text in one.warnings}.values())
        return result

    def _beside(self, system: System, name: str) -> Any:
        """What is added to a quantity from outside of the wavefunction."""
        return 0.0

    def _details(self, system: System, computed: Sequence[Computed]) -> dict[str, Any]:
        details = dict(computed[-1].details)
        if len(computed) > 1:
            details["basis_limit"] = {
                "bases": [str(term.basis) for term in self._terms],
                "mean_field_hartree": [one.mean_field["energy"] for one in computed],
                "correlation_hartree": [one.correlation.get("energy", 0.0) for one in computed],
                "limit_mean_field_hartree": _sum("mean_field", computed, self._terms),
                "limit_correlation_hartree": _sum("correlation", computed, self._terms),
                "mean_field_by": "A (L + 1) exp(-9 sqrt(L)), Karton and Martin 2006",
                "correlation_by": "A L^-3, Helgaker et al. 1997",
            }
        return details

    remembers = True

    def memory(self) -> dict[str, Any]:
        """The densities that the next SCF may start from, by basis, and the last analyses of their stability."""
        densities = {basis: last.packed() for basis, last in self._last.items()}
        return {"densities": densities, "analyses": self._analyses.packed()}

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Take what `memory` gave for the last densities and analyses."""
        self._last = {basis: LastDensity.unpacked(packed) for basis, packed in memory.get("densities", {}).items()}
        self._analyses.recall(memory.get("analyses", {}))

    def _in_basis(self, system: System, basis: Basis, wanted: frozenset[str]) -> Computed:
        mean_field = self._mean_field(system, basis)
        last, state = self._last.get(str(basis)), (str(basis), system.charge, system.spin)
        density, begun, check = None, "atoms", self.settings.stability
        if last is not None and last.suits(mean_field.mol, state):
            density, begun = last.on(mean_field.mol), "the last density"
            check = False if check is None else check  # it was looked at there
        determinant = converge(mean_field, density, begun, check, self._watcher)
        failure = determinant.failure()
        if failure is not None:
            self._last.pop(str(basis), None)
            details = {"scf": determinant.describe(str(basis))}
            return Computed({"energy": float(mean_field.e_tot)}, details=details, failure=failure)
        self._last[str(basis)] = LastDensity.of(mean_field, state)
        closed = reference_title(mean_field) in ("RHF", "RKS")
        if closed and self.trusts_determinant and self.settings.stability is not False:
            title = self.settings.xc or "Hartree–Fock"
            determinant.warnings += self._analyses.warnings(mean_field, title, state)
        computed = self._computed(determinant, wanted)
        computed.details = {"scf": determinant.describe(str(basis)), **computed.details}
        computed.warnings = [*determinant.warnings, *computed.warnings]
        return computed


def _sum(part: str, computed: Sequence[Computed], terms: Sequence[basis_limit.Term]) -> float:
    """The weighted sum of one part's energies."""
    pairs = zip(computed, terms, strict=True)
    return float(sum(getattr(term, part) * getattr(one, part).get("energy", 0.0) for one, term in pairs))


def _combined(computed: Sequence[Computed], terms: Sequence[basis_limit.Term]) -> Quantities:
    """Sum over the basis sets of weighted mean-field and correlation parts."""
    total: Quantities = {}
    for one, term in zip(computed, terms, strict=True):
        for part, weight in ((one.mean_field, term.mean_field), (one.correlation, term.correlation)):
            for name, value in part.items():
                total[name] = total.get(name, 0.0) + weight * np.asarray(value)
    return total
