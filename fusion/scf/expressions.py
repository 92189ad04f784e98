"""PySCF's readers of basis sets and geometries, which by default evaluate expressions and open files."""

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
    """Make PySCF's readers accept numbers only, and files only by a path: basis sets may come from an untrusted source.

    Otherwise PySCF passes text that is not a number to `eval`, and a file called `sto-3g` in the current directory
    replaces the basis of this name.
    """
    for name in _READERS:
        import_module(name).DISABLE_EVAL = True  # type: ignore[attr-defined]
    basis: Any = import_module("pyscf.gto.basis")
    basis.os = SimpleNamespace(path=SimpleNamespace(**{**vars(os.path), "isfile": is_basis_file}), environ=os.environ)


def is_basis_file(name: str) -> bool:
    """True for a file whose name has a directory or a suffix, `./mine` or `mine.nw`, unlike the name of a basis set."""
    return bool("/" in name or os.sep in name or PurePath(name).suffix) and os.path.isfile(name)
