"""PySCF's readers of basis sets and geometries, which hand what is no number to `eval` unless told otherwise."""

from __future__ import annotations

from importlib import import_module
from typing import Final

_READERS: Final = (
    "pyscf.gto.mole",
    "pyscf.gto.basis.parse_cp2k",
    "pyscf.gto.basis.parse_molpro",
    "pyscf.gto.basis.parse_nwchem",
    "pyscf.gto.basis.parse_nwchem_ecp",
)


def refuse_expressions() -> None:
    """Make PySCF's readers raise ValueError for an expression in place of a number: a basis set may be a stranger's."""
    for name in _READERS:
        import_module(name).DISABLE_EVAL = True  # type: ignore[attr-defined]
