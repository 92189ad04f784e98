"""Sum of methods: energies and their derivatives, term by term. Atomic units.

    E(R) = sum_i f_i E_i(J_i R)

J_i is the linear map to the part of the molecule that term i applies to; it is the identity for a term of the whole
molecule. Forces, dipole derivatives and Hessian follow exactly by the chain rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any, Final

import numpy as np
from omegaconf import OmegaConf

from fusion.chemistry import energy_zeros
from fusion.chemistry.system import System
from fusion.methods import abilities
from fusion.methods.abilities import Watcher
from fusion.methods.about import About
from fusion.methods.protocol import Method
from fusion.methods.sums import fragments
from fusion.methods.sums.fragments import Fragment
from fusion.methods.sums.terms import Term, read
from fusion.runs.results import Result

_BY_ATOMS: Final = frozenset({"forces", "dipole_derivatives", "polarizability_derivatives"})
"""Properties whose first index counts nuclei or their coordinates."""
_ADDED: Final = _BY_ATOMS | {"energy", "hessian", "stress", "dipole", "polarizability"}
_UNCERTAIN: Final = frozenset({"energy_std", "energy_stderr"})

Part = tuple[Term, "Fragment | None", Result]


class SumMethod:
    """`Method` that adds other methods: `terms` are entries in the form of `fusion.methods.by_name`, each with a
    `factor` (default 1) and the `atoms` it applies to (counted from 1, default all).

    It provides the properties that all terms provide themselves. `energy_std` and `energy_stderr` of the terms add in
    quadrature. An ensemble in several terms is added member by member, because its errors are correlated. Raises
    InputError for impossible entries.
    """

    kind = "composite"

    def __init__(
        self,
        name: str,
        terms: Any,
        dtype: str | None = None,
        seed: int | None = None,
        about: About | Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.about = name, About.read(about)
        defaults = {key: value for key, value in (("dtype", dtype), ("seed", seed)) if value is not None}
        self.terms = read(plain(terms), defaults)

    @classmethod
    def of(cls, name: str, methods: Sequence[Method]) -> SumMethod:
        """Return the sum of methods that exist already."""
        result = cls.__new__(cls)
        result.name, result.about = name, About.read(None)
        result.terms = tuple(Term({}, method) for method in methods)
        return result

    @property
    def label(self) -> str:
        """The title if there is one, else the terms with their signs: `ani-2x@1 + D3(BJ)`."""
        if self.about.title:
            return self.about.title
        text = ""
        for term in self.terms:
            sign = "-" if term.factor < 0 else "+"
            factor = "" if abs(term.factor) == 1 else f"{abs(term.factor):g} × "
            text += f" {sign} {factor}{term.label}" if text else f"{'-' if sign == '-' else ''}{factor}{term.label}"
        return text

    @cached_property
    def provides(self) -> frozenset[str]:
        """Properties that every term provides itself, and the uncertainties of any term."""
        common = frozenset.intersection(*(_available(term) for term in self.terms)) & _ADDED
        if any(term.atoms is not None for term in self.terms):
            common -= {"stress"}
        uncertain = _UNCERTAIN | ({"forces_stderr"} if "forces" in common else set())
        return common | {name for term in self.terms for name in uncertain & term.method.provides}

    @property
    def energy_zero(self) -> str:
        """Energy zero: that of the terms if it is the same and is counted once, else one of its own."""
        counted = [term for term in self.terms if term.zero != energy_zeros.CORRECTION]
        if not counted:
            return energy_zeros.CORRECTION
        times: dict[tuple[int, ...] | None, float] = {None: 0.0}
        for term in counted:
            times[term.atoms] = times.get(term.atoms, 0.0) + term.factor
        counted_once = all(abs(total - (atoms is None)) < 1e-12 for atoms, total in times.items())
        term_zeros = {term.zero for term in counted}
        return term_zeros.pop() if counted_once and len(term_zeros) == 1 else energy_zeros.OWN

    def check(self, systems: Sequence[System], properties: Iterable[str] = ()) -> None:
        """Raise InputError, naming the term, if one of them cannot calculate the systems."""
        for term in self.terms:
            term.check(systems, properties)

    @property
    def reports(self) -> bool:
        """True if a term reports its cycles."""
        return any(abilities.reporting(term.method) for term in self.terms)

    @contextmanager
    def watched(self, watcher: Watcher) -> Iterator[None]:
        """Call `watcher` after each cycle of the terms that report them, with the label of the term in the text."""
        with ExitStack() as stack:
            for term in self.terms:
                method = abilities.reporting(term.method)
                if method is not None:
                    stack.enter_context(method.watched(_labelled(watcher, term.label)))
            yield

    @property
    def remembers(self) -> bool:
        """True if a term has a memory."""
        return any(abilities.remembering(term.method) for term in self.terms)

    def memory(self) -> dict[str, Any]:
        """The memory of each term, by its number."""
        pairs = ((str(number), abilities.remembering(term.method)) for number, term in enumerate(self.terms))
        return {number: method.memory() for number, method in pairs if method is not None}

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Give every term its memory back."""
        for number, term in enumerate(self.terms):
            method = abilities.remembering(term.method)
            if method is not None:
                method.recall(memory.get(str(number), {}))

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        """Return one result per system, with the results of the terms in its details. If a term fails for a system, its
        later terms are not calculated and it gets no energy."""
        requested = frozenset(properties) & _ADDED | {"energy"}
        uncertain = {"forces_stderr"} if "forces" in requested else set()
        parts: list[list[Part]] = [[] for _ in systems]
        remaining = list(range(len(systems)))
        for term in self.terms:
            needed = requested | ({"energy_members"} if self._shares_ensemble(term) else frozenset())
            needed &= _available(term) | {"energy"}
            needed = needed - _contributing_nothing(term) | (uncertain & term.method.provides)
            results = term.calculate([systems[index] for index in remaining], needed) if remaining else []
            for index, (part, result) in zip(remaining, results, strict=True):
                parts[index].append((term, part, result))
            remaining = [index for index in remaining if _good(parts[index][-1][2])]
        return [
            self._sum(system, parts_of_system, requested)
            for system, parts_of_system in zip(systems, parts, strict=True)
        ]

    def _sum(self, system: System, parts: Sequence[Part], requested: frozenset[str]) -> Result:
        result = Result(system)
        result.details["sum"] = {
            "energy_zero": self.energy_zero,
            "terms": [_described(system, *part) for part in parts],
        }
        failed = next((part for part in parts if not _good(part[2])), None)
        if failed is not None:
            term, _, term_result = failed
            result.status = term_result.status if term_result.status != "ok" else "failed"
            result.message = f"{term.label}: {term_result.message or term_result.status}"
            result.files = dict(term_result.files)
            return result
        result.energy = sum(term.factor * _energy(term_result) for term, _, term_result in parts)
        for name in requested - {"energy"}:
            result.properties[name] = sum(
                (
                    term.factor * _to_molecule(name, np.asarray(term_result.properties[name]), part)
                    for term, part, term_result in parts
                    if name not in _contributing_nothing(term)
                ),
                start=np.zeros(()),
            )
        if "forces" in requested:
            self._add_forces_stderr(result, parts)
        result.energy_stderr = _quadrature((term.factor, term_result.energy_stderr) for term, _, term_result in parts)
        result.energy_std = self._spread(parts)
        if result.energy_std is not None or result.energy_stderr is not None:
            result.details["sum"]["uncertainty"] = self._combination()
        result.message = "; ".join(_remarks(system, parts)) or None
        result.warnings = [
            f"{term.method_label}: {text}" for term, _, term_result in parts for text in term_result.warnings
        ]
        return result

    def _add_forces_stderr(self, result: Result, parts: Sequence[Part]) -> None:
        """Add the errors of the terms' forces in quadrature, if any term has some."""
        variances = [
            term.factor**2 * _variances_of_molecule(np.asarray(term_result.properties["forces_stderr"]), part)
            for term, part, term_result in parts
            if "forces_stderr" in term_result.properties
        ]
        if variances:
            result.properties["forces_stderr"] = np.sqrt(sum(variances, start=np.zeros(())))

    def _spread(self, parts: Sequence[Part]) -> float | None:
        """Standard deviation of the ensembles; terms with the same ensemble are first added member by member."""
        deviations: list[tuple[float, float | None]] = []
        summed_members: dict[int, np.ndarray] = {}
        for term, _, result in parts:
            members = result.properties.get("energy_members")
            if self._shares_ensemble(term) and members is not None:
                key = next(number for number, other in enumerate(self.terms) if other.entry == term.entry)
                summed_members[key] = summed_members.get(key, 0.0) + term.factor * np.asarray(members)
            else:
                deviations.append((term.factor, result.energy_std))
        deviations += [(1.0, float(np.std(members, ddof=1))) for members in summed_members.values()]
        return _quadrature(deviations)

    def _shares_ensemble(self, term: Term) -> bool:
        """True if another term has the same ensemble."""
        same = [other for other in self.terms if other.entry == term.entry]
        return len(same) > 1 and "energy_members" in term.method.provides

    def _combination(self) -> str:
        """Combination of the terms' uncertainties, in words."""
        if any(self._shares_ensemble(term) for term in self.terms):
            return "in quadrature; an ensemble in several terms member by member"
        return "in quadrature"


def plain(content: Any) -> Any:
    """Convert a configuration node to plain containers; return anything else unchanged."""
    return OmegaConf.to_container(content, resolve=True) if OmegaConf.is_config(content) else content


def _available(term: Term) -> frozenset[str]:
    """Properties that a term provides, or to which it contributes nothing."""
    return term.method.provides | _contributing_nothing(term)


def _contributing_nothing(term: Term) -> frozenset[str]:
    """Properties that are zero in a correction without electrons, such as one between atoms, if not provided."""
    if term.zero != energy_zeros.CORRECTION:
        return frozenset()
    electronic = {"dipole", "polarizability", "dipole_derivatives", "polarizability_derivatives"}
    return frozenset(electronic - term.method.provides)


def _to_molecule(name: str, value: np.ndarray, part: Fragment | None) -> np.ndarray:
    """Transform a property of a part to the coordinates of the molecule by the chain rule."""
    if part is None or name in ("dipole", "polarizability"):
        return value
    jacobian = part.jacobian if name == "forces" else part.coordinates()
    if name == "hessian":
        return jacobian.T @ value @ jacobian
    return np.tensordot(jacobian.T, value, axes=1)


def _variances_of_molecule(stderr: np.ndarray, part: Fragment | None) -> np.ndarray:
    """Variances (A, 3) of the forces on the molecule from the errors on the independent atoms of a part."""
    squares = np.square(stderr)
    return squares if part is None else np.tensordot(np.square(part.jacobian).T, squares, axes=1)


def _good(result: Result) -> bool:
    return result.status == "ok" and result.energy is not None


def _energy(result: Result) -> float:
    assert result.energy is not None
    return result.energy


def _quadrature(pairs: Iterable[tuple[float, float | None]]) -> float | None:
    """Root of the sum of squares of factor times deviation; None without any deviation."""
    terms = [factor * deviation for factor, deviation in pairs if deviation is not None]
    return math.hypot(*terms) if terms else None


def _described(system: System, term: Term, part: Fragment | None, result: Result) -> dict[str, Any]:
    """Details of a term for `result.json`; atoms are counted from 1."""
    details: dict[str, Any] = {
        "term": term.label,
        "factor": term.factor,
        "status": result.status,
        "energy_hartree": result.energy,
        "energy_stderr_hartree": result.energy_stderr,
        "energy_std_hartree": result.energy_std,
        "message": result.message,
        "weights": abilities.weights(term.method),
        "details": result.details or None,
    }
    if part is not None:
        details |= {
            "formula": part.system.formula,
            "charge": part.system.charge,
            "spin": part.system.spin,
            "atoms": [atom + 1 for atom in term.atoms or ()],
            "link_atoms": [{"bond": [cut.inside + 1, cut.outside + 1], "at": cut.g} for cut in part.cuts],
        }
    return {key: value for key, value in details.items() if value is not None}


def _remarks(system: System, parts: Sequence[Part]) -> list[str]:
    """Messages of the terms and remarks on their cuts, each once."""
    lines: list[str] = []
    for term, part, result in parts:
        remarks: tuple[str | None, ...] = (result.message, fragments.remark(system, part.cuts) if part else None)
        lines += [f"{term.method_label}: {remark}" for remark in remarks if remark]
    return list(dict.fromkeys(lines))


def _labelled(watcher: Watcher, label: str) -> Watcher:
    return lambda step, text: watcher(step, f"{label}  {text}")
