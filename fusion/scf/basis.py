"""Basis sets by name: one for all elements, or one per element."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ase.data import atomic_numbers

from fusion.errors import InputError

DEFAULT: Final = "default"
"""Key of the basis for all elements that a mapping does not name."""
VALENCE: Final = ("bfd", "ccecp", "gth")
"""Prefixes of basis sets for valence electrons only; the potential of the core electrons has the prefix as its name."""
_SYNTAX: Final = "write one name, def2-svp, or one per element, {O: def2-tzvp, H: def2-svp}"


@dataclass(frozen=True)
class PerElement:
    """Basis sets of PySCF by element; `others` is the basis of all other elements, or None."""

    names: tuple[tuple[str, str], ...]
    others: str | None = None

    def __str__(self) -> str:
        pairs = [*self.names, *([] if self.others is None else [(DEFAULT, self.others)])]
        return ", ".join(f"{element} {name}" for element, name in pairs)


Basis = str | PerElement


def read(setting: Any) -> Basis:
    """Return the basis that `method.basis` names: a name, or a mapping from elements to names.

    Raises InputError for anything else, for an element that does not exist and for a name that is not a string.
    """
    if isinstance(setting, str) and setting.strip():
        return setting
    if isinstance(setting, PerElement):
        return setting
    if not isinstance(setting, Mapping) or not setting:
        raise InputError(f"method.basis={setting} is not a basis; {_SYNTAX}")
    names: dict[str, str] = {}
    for key, name in setting.items():
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"method.basis: {name!r} for {key} is not the name of a basis; {_SYNTAX}")
        element = DEFAULT if str(key).lower() == DEFAULT else _element(key)
        if element in names:
            raise InputError(f"method.basis names a basis for {element} twice; {_SYNTAX}")
        names[element] = name
    others = names.pop(DEFAULT, None)
    return PerElement(tuple(names.items()), others) if names else str(others)


def of_element(basis: Basis, symbol: str) -> str:
    """Return the name of the basis for an element. Raises InputError if a mapping has none."""
    if isinstance(basis, str):
        return basis
    name = dict(basis.names).get(symbol, basis.others)
    if name is None:
        raise InputError(f"method.basis: no basis for {symbol} in {{{_listed(basis)}}}; add {symbol}: or default:")
    return name


def all_names(basis: Basis) -> Iterable[str]:
    """Return the names of the basis sets of all elements."""
    if isinstance(basis, str):
        return (basis,)
    return (*(name for _, name in basis.names), *(() if basis.others is None else (basis.others,)))


def _listed(basis: PerElement) -> str:
    return ", ".join(f"{element}: {name}" for element, name in basis.names)


def _element(key: object) -> str:
    symbol = str(key).strip().capitalize()
    if atomic_numbers.get(symbol, 0) == 0:
        raise InputError(f"method.basis: unknown element {key!r}; {_SYNTAX}")
    return symbol
