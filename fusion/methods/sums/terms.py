"""Terms of a sum: a method, a factor, and the atoms it applies to."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.methods import by_name, protocol
from fusion.methods.protocol import Method
from fusion.methods.sums import fragments
from fusion.methods.sums.fragments import Fragment
from fusion.runs.results import Result

OWN_KEYS = ("factor", "atoms", "charge", "spin", "cuts")
"""Settings of a term that do not belong to its method."""

_CACHED = 4  # fragments whose results are cached: most displacements of a molecule leave its parts unchanged


@dataclass(eq=False)
class Term:
    """`factor` times the energy of a method for `atoms` (counted from 0; None: all).

    `charge` and `spin` are those of the part; `cuts`: bonds (inside, outside) to cut (None: judged by distances).
    `entry`: the user's entry.
    """

    entry: Mapping[str, Any]
    method: Method
    factor: float = 1.0
    atoms: tuple[int, ...] | None = None
    charge: int | None = None
    spin: int | None = None
    cuts: tuple[tuple[int, int], ...] | None = None
    _cache: OrderedDict[bytes, Result] = field(default_factory=OrderedDict)

    @cached_property
    def method_label(self) -> str:
        """Label of the method."""
        return self.method.label

    @property
    def label(self) -> str:
        """Label of the term: `ani-2x@1`, or `ani-2x@1 of atoms 1-4`."""
        if self.atoms is None:
            return self.method_label
        return f"{self.method_label} of atom{'s' if len(self.atoms) > 1 else ''} {ranges(self.atoms)}"

    @property
    def zero(self) -> str:
        """Energy zero of the method."""
        return self.method.energy_zero

    def fragment(self, system: System, strict: bool = False) -> Fragment | None:
        """The part of `system` that the term applies to; None for all of it.

        Raises InputError for atoms that do not exist and, if `strict`, for cutting a double bond. It is not strict
        during a calculation, where a bond may become short.
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
        """Raise InputError, naming the term, if it cannot calculate these systems."""
        with naming(self.label):
            parts = [self.fragment(system, strict=True) for system in systems]
            requested = frozenset(properties) & protocol.available(self.method) | {"energy"}
            calculated = [system if part is None else part.system for system, part in zip(systems, parts, strict=True)]
            protocol.require(self.method, requested, "the sum", calculated, error_bars=True)

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[tuple[Fragment | None, Result]]:
        """Return the part of every system and the method's result for it, without the factor."""
        requested = frozenset(properties)
        with naming(self.label):
            parts = [self.fragment(system) for system in systems]
            if self.atoms is None:
                results: Sequence[Result] = protocol.calculate(self.method, systems, requested)
            else:
                results = self._of_parts([part.system for part in parts if part is not None], requested)
        return list(zip(parts, results, strict=True))

    def _of_parts(self, systems: Sequence[System], requested: frozenset[str]) -> list[Result]:
        """Results of fragments. Equal fragments, such as those after a displacement of distant atoms, are calculated
        once."""
        keys = [_key(system, requested) for system in systems]
        new = {key: system for key, system in zip(keys, systems, strict=True) if key not in self._cache}
        calculated = dict(
            zip(new, protocol.calculate(self.method, list(new.values()), requested) if new else (), strict=True)
        )
        results = [calculated[key] if key in calculated else self._cache[key] for key in keys]
        for key, result in zip(keys, results, strict=True):
            self._cache[key] = result
            self._cache.move_to_end(key)
        while len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return results


def _key(system: System, requested: Iterable[str]) -> bytes:
    """Return what equal requests for equal fragments share: other elements may stand at the same places."""
    state = system.symbols, system.charge, system.spin, sorted(requested)
    return system.positions.tobytes() + repr(state).encode()


@contextmanager
def naming(label: str) -> Iterator[None]:
    """Prefix the errors of the block with `label`."""
    try:
        yield
    except (InputError, CalculationError) as error:
        raise type(error)(f"{label}: {error}") from error


def read(entries: Any, defaults: Mapping[str, Any]) -> tuple[Term, ...]:
    """Read the terms of `method.terms`; `defaults` (dtype, seed) apply to terms that do not set them.

    Raises InputError for an empty list, an unknown method or setting, and wrong atoms.
    """
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not len(entries):
        raise InputError(
            "method.terms must list the methods to add: method.terms=[ani-2x,{method: d3, xc: wb97x}] "
            "(+method=sum/oniom treats part of a molecule at a higher level)"
        )
    return tuple(_term(entry, number, defaults) for number, entry in enumerate(entries, start=1))


def _term(entry: Any, number: int, defaults: Mapping[str, Any]) -> Term:
    with naming(f"method.terms, term {number}"):
        name, options = by_name.parts(entry)
        term_settings = {key: options.pop(key) for key in OWN_KEYS if key in options}
        method = by_name.method({"method": name, **defaults, **options})
        factor = term_settings.get("factor", 1.0)
        if isinstance(factor, bool) or not isinstance(factor, (int, float)) or factor == 0 or not np.isfinite(factor):
            raise InputError(f"factor must be a number other than zero, not {factor!r}")
        charge, spin = (_whole_number(term_settings.get(key), key) for key in ("charge", "spin"))
        atoms = None if term_settings.get("atoms") is None else indices(term_settings["atoms"])
        for key in ("charge", "spin", "cuts"):
            if atoms is None and term_settings.get(key) is not None:
                raise InputError(f"{key} belongs to a part of the molecule: give atoms=[1,2,...] too")
        return Term(
            {"method": name, **options},
            method,
            float(factor),
            atoms,
            charge,
            spin,
            _cuts(term_settings.get("cuts"), atoms),
        )


def indices(listed: Any) -> tuple[int, ...]:
    """Atoms counted from 0, ascending, from a list that counts from 1 and may have ranges: `[1, 2, "5-8"]`.

    Raises InputError.
    """
    parts = [listed] if isinstance(listed, (int, str)) else listed
    if not isinstance(parts, Sequence) or not parts:
        raise InputError(f"atoms must be a list of atoms counted from 1, [1,2,5-8], not {listed!r}")
    atoms: list[int] = []
    for part in parts:
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", str(part))
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last:
            raise InputError(f"atoms must be whole numbers from 1 on or ranges such as 5-8, not {part!r}")
        atoms += range(first - 1, last)
    if len(set(atoms)) < len(atoms):
        raise InputError(f"atoms names an atom twice: {list(parts)}")
    return tuple(sorted(atoms))


def ranges(atoms: Sequence[int]) -> str:
    """Format atoms counted from 0 as ranges counted from 1: `1-4, 7`."""
    runs: list[list[int]] = []
    for atom in atoms:
        if runs and runs[-1][1] == atom - 1:
            runs[-1][1] = atom
        else:
            runs.append([atom, atom])
    return ", ".join(f"{first + 1}" if first == last else f"{first + 1}-{last + 1}" for first, last in runs)


def _cuts(listed: Any, atoms: tuple[int, ...] | None) -> tuple[tuple[int, int], ...] | None:
    """Pairs (inside, outside), counted from 0. Raises InputError unless exactly one of each pair is among `atoms`."""
    if listed is None or atoms is None:
        return None
    pairs = []
    for pair in listed:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise InputError(f"cuts must be pairs of atoms, [[3,4],[7,9]], not {listed!r}")
        first, second = sorted((indices([atom])[0] for atom in pair), key=lambda atom: atom not in atoms)
        if first not in atoms or second in atoms:
            raise InputError(f"cuts: of {list(pair)} one atom must be among atoms={ranges(atoms)} and one must not")
        pairs.append((first, second))
    return tuple(pairs)


def _whole_number(value: Any, key: str) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise InputError(f"{key} must be a whole number, not {value!r}")
