"""A term of a sum: a method, a factor, and the atoms it is for."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fusion import methods, named, zeros
from fusion.composition import fragments
from fusion.composition.fragments import Fragment
from fusion.errors import CalculationError, InputError
from fusion.results import Result
from fusion.system import System

OWN_KEYS = ("factor", "atoms", "charge", "spin", "cuts")
"""Settings of a term that are not its method's."""

_KEPT = 4  # fragments whose results are remembered: most displacements of a molecule leave its parts where they were


@dataclass(eq=False)
class Term:
    """`factor` times the energy of a method for `atoms` (counted from 0; None: all), `charge` and `spin` those of the
    part, `cuts` the bonds (inside, outside) to be cut (None: found by distance). `entry` is what the user wrote."""

    entry: Mapping[str, Any]
    method: Any
    factor: float = 1.0
    atoms: tuple[int, ...] | None = None
    charge: int | None = None
    spin: int | None = None
    cuts: tuple[tuple[int, int], ...] | None = None
    _known: OrderedDict[bytes, Result] = field(default_factory=OrderedDict)

    @cached_property
    def method_label(self) -> str:
        """What the method calls itself."""
        return str(getattr(self.method, "label", self.method.name))

    @property
    def label(self) -> str:
        """`ani-2x@1`, or `ani-2x@1 of atoms 1-4`."""
        if self.atoms is None:
            return self.method_label
        return f"{self.method_label} of atom{'s' if len(self.atoms) > 1 else ''} {ranges(self.atoms)}"

    @property
    def zero(self) -> str:
        """What the method's energies are relative to."""
        return zeros.of(self.method)

    def fragment(self, system: System, strict: bool = False) -> Fragment | None:
        """The part of `system` that the term is for; None for all of it.

        Raises InputError for atoms that are not there and, if `strict`, for a double bond that would be cut: a bond may
        come near one on the way of a calculation.
        """
        if self.atoms is None:
            return None
        if any(system.pbc):
            raise InputError(f"atoms= chooses part of a molecule; {system.name} is periodic")
        for atom in {*self.atoms, *(atom for pair in self.cuts or () for atom in pair)}:
            if atom >= len(system.symbols):
                raise InputError(f"no atom {atom + 1} in {system.name}, whose atoms are 1 ... {len(system.symbols)}")
        if self.cuts is None:
            cuts = fragments.bonds_across(system, self.atoms)
        else:
            cuts = tuple(fragments.cut(system, inside, outside) for inside, outside in self.cuts)
        if self.cuts is None and strict:
            fragments.refuse_double(system, cuts)
        return fragments.fragment(system, self.atoms, cuts, self.charge, self.spin)

    def check(self, systems: Sequence[System], properties: Iterable[str]) -> None:
        """Raise InputError, beginning with the term, for what it cannot do with these systems."""
        with naming(self.label):
            parts = [self.fragment(system, strict=True) for system in systems]
            wanted = frozenset(properties) & methods.available(self.method) | {"energy"}
            chosen = [system if part is None else part.system for system, part in zip(systems, parts, strict=True)]
            methods.require(self.method, wanted, "the sum", chosen)

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[tuple[Fragment | None, Result]]:
        """The part of every system and the method's result for it, not yet multiplied by the factor."""
        wanted = frozenset(properties)
        with naming(self.label):
            parts = [self.fragment(system) for system in systems]
            if self.atoms is None:
                results: Sequence[Result] = methods.calculate(self.method, systems, wanted)
            else:
                results = self._of_parts([part.system for part in parts if part is not None], wanted)
        return list(zip(parts, results, strict=True))

    def _of_parts(self, systems: Sequence[System], wanted: frozenset[str]) -> list[Result]:
        """Results of fragments; equal ones, as of displacements of atoms far away, are calculated once."""
        keys = [system.positions.tobytes() + repr(sorted(wanted)).encode() for system in systems]
        new = {key: system for key, system in zip(keys, systems, strict=True) if key not in self._known}
        found = dict(zip(new, methods.calculate(self.method, list(new.values()), wanted) if new else (), strict=True))
        results = [found[key] if key in found else self._known[key] for key in keys]
        for key, result in zip(keys, results, strict=True):
            self._known[key] = result
            self._known.move_to_end(key)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return results


@contextmanager
def naming(label: str) -> Iterator[None]:
    """Errors of the block say what they are about."""
    try:
        yield
    except (InputError, CalculationError) as error:
        raise type(error)(f"{label}: {error}") from error


def read(entries: Any, beside: Mapping[str, Any]) -> tuple[Term, ...]:
    """The terms that `method.terms` names; `beside` (dtype, seed) holds for those that do not say otherwise.

    Raises InputError for no terms, a method or setting that does not exist, and atoms that are no atoms.
    """
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not len(entries):
        raise InputError(
            "method.terms names the methods to be added: method.terms=[ani-2x,{method: d3, xc: wb97x}] "
            "(+method=sum/oniom treats part of a molecule at a higher level)"
        )
    return tuple(_term(entry, number, beside) for number, entry in enumerate(entries, start=1))


def _term(entry: Any, number: int, beside: Mapping[str, Any]) -> Term:
    with naming(f"method.terms, term {number}"):
        name, options = named.parts(entry)
        own = {key: options.pop(key) for key in OWN_KEYS if key in options}
        method = named.method({"method": name, **beside, **options})
        factor = own.get("factor", 1.0)
        if isinstance(factor, bool) or not isinstance(factor, (int, float)) or factor == 0 or not np.isfinite(factor):
            raise InputError(f"factor must be a number other than zero, not {factor!r}")
        charge, spin = (_whole(own.get(key), key) for key in ("charge", "spin"))
        atoms = None if own.get("atoms") is None else indices(own["atoms"])
        for key in ("charge", "spin", "cuts"):
            if atoms is None and own.get(key) is not None:
                raise InputError(f"{key} belongs to a part of the molecule: give atoms=[1,2,...] too")
        return Term(
            {"method": name, **options}, method, float(factor), atoms, charge, spin, _cuts(own.get("cuts"), atoms)
        )


def indices(given: Any) -> tuple[int, ...]:
    """Atoms counted from 0, ascending, of a list that counts from 1 and may hold ranges: `[1, 2, "5-8"]`. Raises
    InputError."""
    parts = [given] if isinstance(given, (int, str)) else given
    if not isinstance(parts, Sequence) or not parts:
        raise InputError(f"atoms must be a list of atoms counted from 1, [1,2,5-8], not {given!r}")
    found: list[int] = []
    for part in parts:
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", str(part))
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last:
            raise InputError(f"atoms must be whole numbers from 1 on or ranges such as 5-8, not {part!r}")
        found += range(first - 1, last)
    if len(set(found)) < len(found):
        raise InputError(f"atoms names an atom twice: {list(parts)}")
    return tuple(sorted(found))


def ranges(atoms: Sequence[int]) -> str:
    """`1-4, 7` of atoms counted from 0."""
    runs: list[list[int]] = []
    for atom in atoms:
        if runs and runs[-1][1] == atom - 1:
            runs[-1][1] = atom
        else:
            runs.append([atom, atom])
    return ", ".join(f"{first + 1}" if first == last else f"{first + 1}-{last + 1}" for first, last in runs)


def _cuts(given: Any, atoms: tuple[int, ...] | None) -> tuple[tuple[int, int], ...] | None:
    """Pairs (inside, outside), counted from 0. Raises InputError unless exactly one of each pair is among `atoms`."""
    if given is None or atoms is None:
        return None
    pairs = []
    for pair in given:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise InputError(f"cuts must be pairs of atoms, [[3,4],[7,9]], not {given!r}")
        first, second = sorted((indices([atom])[0] for atom in pair), key=lambda atom: atom not in atoms)
        if first not in atoms or second in atoms:
            raise InputError(f"cuts: of {list(pair)} one atom must be among atoms={ranges(atoms)} and one must not")
        pairs.append((first, second))
    return tuple(pairs)


def _whole(value: Any, key: str) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise InputError(f"{key} must be a whole number, not {value!r}")
