"""The sum of methods: energies and their derivatives, term by term. Atomic units.

    E(R) = sum_i f_i E_i(J_i R)

with J_i the linear map to the part of the molecule that term i is for, the identity where it is for all of it, so that
forces, dipole derivatives and Hessian follow by the chain rule exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property
from typing import Any, Final

import numpy as np
from omegaconf import OmegaConf

from fusion import methods, zeros
from fusion.composition import fragments
from fusion.composition.fragments import Fragment
from fusion.composition.terms import Term, read
from fusion.results import Result
from fusion.system import System

_BY_ATOMS: Final = frozenset({"forces", "dipole_derivatives", "polarizability_derivatives"})
"""Properties whose first index is of nuclei or their coordinates."""
_ADDED: Final = _BY_ATOMS | {"energy", "hessian", "stress", "dipole", "polarizability"}
_UNCERTAIN: Final = frozenset({"energy_std", "energy_stderr"})

Part = tuple[Term, "Fragment | None", Result]


class SumMethod:
    """`Method` that adds other methods: `terms` are entries as in `fusion.named`, each with a `factor` (default 1) and
    the `atoms` it is for (counted from 1, default all).

    It provides what all terms provide themselves. The terms' `energy_std` and `energy_stderr` are combined in
    quadrature, but those of one ensemble in several terms member by member, as its errors are the same. Raises
    InputError for entries that cannot be.
    """

    kind = "composite"

    def __init__(
        self,
        name: str,
        terms: Any,
        title: str | None = None,
        dtype: str | None = None,
        seed: int | None = None,
        summary: str = "",
        cost: str = "",
        gives: str = "",
        requires: Sequence[str] = (),
    ) -> None:
        self.name, self.title, self.summary, self.cost, self.requires = name, title, summary, cost, tuple(requires)
        beside = {key: value for key, value in (("dtype", dtype), ("seed", seed)) if value is not None}
        self.terms = read(plain(terms), beside)

    @property
    def label(self) -> str:
        """`ani-2x@1 + D3(BJ)`: the terms with their signs, or the title that was given."""
        if self.title:
            return self.title
        text = ""
        for term in self.terms:
            sign = "-" if term.factor < 0 else "+"
            factor = "" if abs(term.factor) == 1 else f"{abs(term.factor):g} × "
            text += f" {sign} {factor}{term.label}" if text else f"{'-' if sign == '-' else ''}{factor}{term.label}"
        return text

    @cached_property
    def provides(self) -> frozenset[str]:
        """What every term provides itself, and uncertainties that any of them has."""
        common = frozenset.intersection(*(_given(term) for term in self.terms)) & _ADDED
        if any(term.atoms is not None for term in self.terms):
            common -= {"stress"}
        return common | {name for term in self.terms for name in _UNCERTAIN & term.method.provides}

    @property
    def energy_zero(self) -> str:
        """What energies are relative to: that of the terms, where they agree on one and it is counted once."""
        counted = [term for term in self.terms if term.zero != zeros.CORRECTION]
        if not counted:
            return zeros.CORRECTION
        times: dict[tuple[int, ...] | None, float] = {None: 0.0}
        for term in counted:
            times[term.atoms] = times.get(term.atoms, 0.0) + term.factor
        once = all(abs(total - (atoms is None)) < 1e-12 for atoms, total in times.items())
        found = {term.zero for term in counted}
        return found.pop() if once and len(found) == 1 else zeros.OWN

    def check(self, systems: Sequence[System], properties: Iterable[str] = ()) -> None:
        """Raise InputError, naming the term, for what one of them cannot do."""
        for term in self.terms:
            term.check(systems, properties)

    @property
    def watched(self) -> Callable[[Callable[[int, str], None]], AbstractContextManager[None]] | None:
        """A context that calls a watcher with the number of cycles and a text while terms that can be watched
        calculate; None where there are none."""
        if all(getattr(term.method, "watched", None) is None for term in self.terms):
            return None
        return self._watched

    @contextmanager
    def _watched(self, watcher: Callable[[int, str], None]) -> Iterator[None]:
        with ExitStack() as stack:
            for term in self.terms:
                watched = getattr(term.method, "watched", None)
                if watched is not None:
                    stack.enter_context(watched(_labelled(watcher, term.label)))
            yield

    @property
    def remembers(self) -> bool:
        """True if a term has a memory."""
        return any(methods.remembering(term.method) for term in self.terms)

    def memory(self) -> dict[str, Any]:
        """The memory of each term, by its number."""
        pairs = ((str(number), methods.remembering(term.method)) for number, term in enumerate(self.terms))
        return {number: method.memory() for number, method in pairs if method is not None}

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Give every term its memory back."""
        for number, term in enumerate(self.terms):
            method = methods.remembering(term.method)
            if method is not None:
                method.recall(memory.get(str(number), {}))

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        """One result per system; what the terms said is in its details. A system at which a term fails gets no energy,
        and the terms after that one are not calculated."""
        wanted = frozenset(properties) & _ADDED | {"energy"}
        parts: list[list[Part]] = [[] for _ in systems]
        alive = list(range(len(systems)))
        for term in self.terms:
            asked = wanted | ({"energy_members"} if self._twins(term) else frozenset())
            asked &= _given(term) | {"energy"}
            asked -= _contributing_nothing(term)
            found = term.calculate([systems[index] for index in alive], asked) if alive else []
            for index, (part, result) in zip(alive, found, strict=True):
                parts[index].append((term, part, result))
            alive = [index for index in alive if _good(parts[index][-1][2])]
        return [self._sum(system, found, wanted) for system, found in zip(systems, parts, strict=True)]

    def _sum(self, system: System, parts: Sequence[Part], wanted: frozenset[str]) -> Result:
        result = Result(system)
        result.details["sum"] = {
            "energy_zero": self.energy_zero,
            "terms": [_described(system, *part) for part in parts],
        }
        failed = next((part for part in parts if not _good(part[2])), None)
        if failed is not None:
            term, _, found = failed
            result.status = found.status if found.status != "ok" else "failed"
            result.message = f"{term.label}: {found.message or found.status}"
            result.files = dict(found.files)
            return result
        result.energy = sum(term.factor * _energy(found) for term, _, found in parts)
        for name in wanted - {"energy"}:
            result.properties[name] = sum(
                (
                    term.factor * _to_molecule(name, np.asarray(found.properties[name]), part)
                    for term, part, found in parts
                    if name not in _contributing_nothing(term)
                ),
                start=np.zeros(()),
            )
        result.energy_stderr = _quadrature((term.factor, found.energy_stderr) for term, _, found in parts)
        result.energy_std = self._spread(parts)
        if result.energy_std is not None or result.energy_stderr is not None:
            result.details["sum"]["uncertainty"] = self._how()
        result.message = "; ".join(_remarks(system, parts)) or None
        result.warnings = [f"{term.method_label}: {text}" for term, _, found in parts for text in found.warnings]
        return result

    def _spread(self, parts: Sequence[Part]) -> float | None:
        """The ensembles' standard deviation; terms with the same ensemble are first added member by member."""
        deviations: list[tuple[float, float | None]] = []
        together: dict[int, np.ndarray] = {}
        for term, _, found in parts:
            members = found.properties.get("energy_members")
            if self._twins(term) and members is not None:
                key = next(number for number, other in enumerate(self.terms) if other.entry == term.entry)
                together[key] = together.get(key, 0.0) + term.factor * np.asarray(members)
            else:
                deviations.append((term.factor, found.energy_std))
        deviations += [(1.0, float(np.std(members, ddof=1))) for members in together.values()]
        return _quadrature(deviations)

    def _twins(self, term: Term) -> bool:
        """Whether the ensemble of this term is in another one too."""
        same = [other for other in self.terms if other.entry == term.entry]
        return len(same) > 1 and "energy_members" in term.method.provides

    def _how(self) -> str:
        if any(self._twins(term) for term in self.terms):
            return "in quadrature; an ensemble that is in several terms member by member"
        return "in quadrature"


def plain(content: Any) -> Any:
    """A configuration node as plain containers; anything else as it is."""
    return OmegaConf.to_container(content, resolve=True) if OmegaConf.is_config(content) else content


def _given(term: Term) -> frozenset[str]:
    return term.method.provides | _contributing_nothing(term)


def _contributing_nothing(term: Term) -> frozenset[str]:
    """Properties that are zero in a term that knows no electrons, such as a correction between atoms, or a learned one
    that does not give them."""
    if term.zero != zeros.CORRECTION:
        return frozenset()
    unknown = {"dipole", "polarizability", "dipole_derivatives", "polarizability_derivatives"}
    return frozenset(unknown - term.method.provides)


def _to_molecule(name: str, value: np.ndarray, part: Fragment | None) -> np.ndarray:
    """A property of a part as that of the molecule, by the chain rule."""
    if part is None or name in ("dipole", "polarizability"):
        return value
    jacobian = part.jacobian if name == "forces" else part.coordinates()
    if name == "hessian":
        return jacobian.T @ value @ jacobian
    return np.tensordot(jacobian.T, value, axes=1)


def _good(result: Result) -> bool:
    return result.status == "ok" and result.energy is not None


def _energy(result: Result) -> float:
    assert result.energy is not None
    return result.energy


def _quadrature(pairs: Iterable[tuple[float, float | None]]) -> float | None:
    """The root of the sum of squares of factor times deviation; None where there is no deviation."""
    known = [factor * deviation for factor, deviation in pairs if deviation is not None]
    return math.hypot(*known) if known else None


def _described(system: System, term: Term, part: Fragment | None, result: Result) -> dict[str, Any]:
    """What `result.json` says of a term; atoms are counted from 1."""
    found: dict[str, Any] = {
        "term": term.label,
        "factor": term.factor,
        "status": result.status,
        "energy_hartree": result.energy,
        "energy_stderr_hartree": result.energy_stderr,
        "energy_std_hartree": result.energy_std,
        "message": result.message,
        "weights": getattr(term.method, "weights", None),
        "details": result.details or None,
    }
    if part is not None:
        found |= {
            "formula": part.system.formula,
            "charge": part.system.charge,
            "spin": part.system.spin,
            "atoms": [atom + 1 for atom in term.atoms or ()],
            "link_atoms": [{"bond": [cut.inside + 1, cut.outside + 1], "at": cut.g} for cut in part.cuts],
        }
    return {key: value for key, value in found.items() if value is not None}


def _remarks(system: System, parts: Sequence[Part]) -> list[str]:
    """What the terms, and their cuts, have to say, each once."""
    found: list[str] = []
    for term, part, result in parts:
        remarks: tuple[str | None, ...] = (result.message, fragments.remark(system, part.cuts) if part else None)
        found += [f"{term.method_label}: {remark}" for remark in remarks if remark]
    return list(dict.fromkeys(found))


def _labelled(watcher: Callable[[int, str], None], label: str) -> Callable[[int, str], None]:
    return lambda step, text: watcher(step, f"{label}  {text}")
