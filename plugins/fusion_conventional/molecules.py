"""Build PySCF's molecules from systems: basis sets, effective core potentials, basis functions without a nucleus."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyscf import gto

from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.scf.basis import VALENCE, Basis, of_element
from fusion.scf.expressions import refuse_expressions
from fusion.scf.ghosts import Ghost

refuse_expressions()

_MISSING = (KeyError, TypeError, ValueError, RuntimeError, AssertionError, gto.basis.BasisNotFoundError)
"""Exceptions that PySCF raises if it has no basis or potential."""


def molecule(system: System, basis: Basis, cartesian: bool = False, ghosts: Sequence[Ghost] = ()) -> gto.Mole:
    """Build the PySCF molecule of a system in a basis, with the core potentials that belong to the basis.

    `cartesian`: six d functions per shell instead of five. `ghosts` come after the system's atoms. Raises InputError
    for a periodic system, and for a basis that PySCF lacks or that lacks an element.
    """
    if system.cell is not None:
        raise InputError(f"{system.name} is periodic; the conventional methods here are for molecules")
    atoms: list[Any] = list(zip(system.symbols, system.positions.tolist(), strict=True))
    atoms += [ghost.pyscf for ghost in ghosts]
    elements = dict.fromkeys([*system.symbols, *(ghost.symbol for ghost in ghosts)])
    names = {symbol: _valence(of_element(basis, symbol), symbol) for symbol in elements}
    missing = [symbol for symbol, name in names.items() if not _has(gto.basis.load, name, symbol)]
    if missing:
        basis_name = names[missing[0]]
        missing = [symbol for symbol in missing if names[symbol] == basis_name]
        raise InputError(_no_basis(basis_name, missing, len(missing) == len(elements), system))
    return gto.M(
        atom=atoms,
        unit="Bohr",
        basis=names | {f"ghost-{symbol}": name for symbol, name in names.items()},
        ecp=_potentials(names, dict.fromkeys(system.symbols)),
        charge=system.charge,
        spin=system.spin,
        cart=cartesian,
        verbose=0,
    )


def _potentials(names: Mapping[str, str], symbols: Iterable[str]) -> dict[str, str]:
    """Names of the core potentials by element, for the elements whose basis leaves the core to one.

    Raises InputError for a basis of valence electrons only without such a potential.
    """
    potentials = {}
    for symbol in symbols:
        name = names[symbol]
        family = next((prefix for prefix in VALENCE if name.lower().startswith(prefix)), None)
        potential = name if family is None else family
        if _has_potential(potential, symbol):
            potentials[symbol] = potential
        elif family is not None:
            raise InputError(
                f"method.basis={name} is for the valence electrons of {symbol}, and there is no core potential of "
                "molecules with it; choose a ccecp- or def2- basis"
            )
    return potentials


def _has_potential(name: str, symbol: str) -> bool:
    return name != "gth" and _has(gto.basis.load_ecp, name, symbol)


def _valence(basis: str, symbol: str) -> str:
    """Return the valence set, cc-pVXZ, of a core-valence set, cc-pCVXZ, for H and He, which have no core."""
    return re.sub(r"(?i)cc-pw?cv", "cc-pv", basis) if symbol in ("H", "He") else basis


def _has(load: Any, basis: str, symbol: str) -> bool:
    """True if PySCF has a basis (or, with its other loader, a potential) of this name for the element."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PySCF suggests packages that might have the basis
            return bool(load(basis, symbol))
    except _MISSING:
        return False


def _no_basis(basis: str, missing: Sequence[str], all_missing: bool, system: System) -> str:
    if all_missing:
        return (
            f"method.basis: PySCF has no basis {basis!r} for {system.formula}; "
            "it has def2-svp, def2-tzvp, cc-pvdz, 6-31g(d) and others"
        )
    return f"method.basis: {basis} has no functions for {' '.join(missing)}; def2-svp and def2-tzvp go up to Rn"
