"""PySCF's readers of basis sets and geometries, which evaluate expressions and open files unless told otherwise."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import PurePath
from types import SimpleNamespace
from typing import Any, Final

_READERS: Final = (
    "pyscf.gto.mole",
    "pyscf.gto.basis.parse_cp2k",
    "pyscf.gto.basis.parse_molpro",
    "pyscf.gto.basis.parse_nwchem",
    "pyscf.gto.basis.parse_nwchem_ecp",
)


def refuse_expressions() -> None:
    """Make PySCF's readers take numbers only, and files only where a path names them: a basis set may be a stranger's.

    Without this, PySCF hands to `eval` what is no number, and a file called `sto-3g` in the current directory takes the
    place of the basis of that name.
    """
    for name in _READERS:
        import_module(name).DISABLE_EVAL = True  # type: ignore[attr-defined]
    basis: Any = import_module("pyscf.gto.basis")
    basis.os = SimpleNamespace(path=SimpleNamespace(**{**vars(os.path), "isfile": is_basis_file}), environ=os.environ)


def is_basis_file(name: str) -> bool:
    """True for a file whose name has a directory or a suffix, `./mine` or `mine.nw`, which no basis set's name has."""
    return bool("/" in name or os.sep in name or PurePath(name).suffix) and os.path.isfile(name)
