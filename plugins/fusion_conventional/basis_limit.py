"""Extrapolation of energies, and of properties linear in them, to the complete basis set from two basis sets.

Hartree-Fock: E(L) = E + A (L + 1) exp(-9 sqrt(L)), A. Karton and J. M. L. Martin, Theor. Chem. Acc. 115, 330 (2006).
Correlation: E(L) = E + A L^-3, T. Helgaker, W. Klopper, H. Koch, J. Noga, J. Chem. Phys. 106, 9639 (1997). Both limits
are linear combinations of the two energies, so forces and Hessians of the limit are the same combinations.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from fusion.errors import InputError
from fusion.scf.basis import Basis, all_names

_LETTERS: Final = "dtq567"
"""Cardinal numbers 2, 3, ... in names of basis sets."""
_PAIR: Final = re.compile(r"\s*cbs\((.*),(.*)\)\s*", re.IGNORECASE)
_SHORT: Final = re.compile(rf"(.*)\[([{_LETTERS}])([{_LETTERS}])\](.*)", re.IGNORECASE)
_FAMILY: Final = re.compile(
    rf"((?:d-)?(?:aug-)?cc-p(?:w?c)?v)(\(?)([{_LETTERS}])((?:\+d\))?z(?:-pp|-dk)?)", re.IGNORECASE
)
_NEEDED: Final = "the limit needs two adjacent basis sets of one family, cbs(cc-pvtz,cc-pvqz) or cc-pv[tq]z"


@dataclass(frozen=True)
class Term:
    """One basis set with the weights of its mean-field and correlation energies in the sum."""

    basis: Basis
    mean_field: float = 1.0
    correlation: float = 1.0


def terms(basis: Basis) -> tuple[Term, ...]:
    """One term for a basis set, two for `cbs(cc-pvtz,cc-pvqz)` or `cc-pv[tq]z`, the smaller first.

    Raises InputError for a pair that does not belong together, or that is for one element only.
    """
    if not isinstance(basis, str):
        pairs = [name for name in all_names(basis) if _pair(name) is not None]
        if pairs:
            raise InputError(f"method.basis: {pairs[0]} is a pair of basis sets, which cannot be set per element")
        return (Term(basis),)
    pair = _pair(basis)
    if pair is None:
        return (Term(basis),)
    small, large = (_FAMILY.fullmatch(name) for name in pair)
    for name, match in zip(pair, (small, large), strict=True):
        if match is None:
            raise InputError(f"method.basis={basis}: {name} is no cc-pVXZ or aug-cc-pVXZ basis; {_NEEDED}")
    assert small is not None and large is not None
    first, second = _cardinal(small), _cardinal(large)
    if _family(small) != _family(large) or second != first + 1:
        raise InputError(f"method.basis={basis}: {pair[0]} and {pair[1]} are not adjacent; {_NEEDED}")
    mean_field, correlation = _exponential(first), _inverse_cubes(first)
    return (Term(pair[0], -mean_field, -correlation), Term(pair[1], 1.0 + mean_field, 1.0 + correlation))


def title(basis: Basis) -> str:
    """Label of the basis: `CBS(cc-pvtz,cc-pvqz)` for a pair, `{O 6-31g, H sto-3g}` for one per element."""
    if not isinstance(basis, str):
        return f"{{{basis}}}"
    pair = _pair(basis)
    return basis if pair is None else f"CBS({','.join(pair)})"


def _pair(basis: str) -> tuple[str, str] | None:
    if short := _SHORT.fullmatch(basis.strip()):
        head, first, second, tail = short.groups()
        return f"{head}{first}{tail}", f"{head}{second}{tail}"
    if named := _PAIR.fullmatch(basis):
        return named[1].strip(), named[2].strip()
    if basis.lower().startswith("cbs"):
        raise InputError(f"method.basis={basis}: {_NEEDED}")
    return None


def _cardinal(match: re.Match[str]) -> int:
    return _LETTERS.index(match[3].lower()) + 2


def _family(match: re.Match[str]) -> tuple[str, ...]:
    return tuple(part.lower() for part in match.group(1, 2, 4))


def _exponential(small: int) -> float:
    """Weight w in E = E(L+1) + w (E(L+1) - E(L)) for mean-field energies."""
    large = small + 1
    ratio = (small + 1) / (large + 1) * math.exp(9.0 * (math.sqrt(large) - math.sqrt(small)))
    return 1.0 / (ratio - 1.0)


def _inverse_cubes(small: int) -> float:
    """Weight w in E = E(L+1) + w (E(L+1) - E(L)) for correlation energies."""
    return small**3 / ((small + 1) ** 3 - small**3)
