"""fusion: learned quantum chemistry.

Potentials, density functionals and wavefunctions behind one calculation interface.
"""

import os
import sys

# `python -m fusion` searches the current directory, which may hold untrusted files, first: remove it before any other
# import. A directory that was removed is not in the search path, and has no name.
try:
    if sys.argv[:1] == ["-m"] and "fusion" in sys.orig_argv and sys.path[0] == os.getcwd():
        sys.path.pop(0)
except OSError:
    pass

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from fusion.app import run as run
    from fusion.app.functions import compare as compare
    from fusion.app.functions import conformers as conformers
    from fusion.app.functions import energy as energy
    from fusion.app.functions import md as md
    from fusion.app.functions import relax as relax
    from fusion.app.functions import scan as scan
    from fusion.app.functions import ts as ts
    from fusion.app.functions import vibrations as vibrations
    from fusion.app.run_result import result as result
    from fusion.functionals.scf.kohn_sham import kohn_sham as kohn_sham
    from fusion.methods.ase_calculator import calculator as calculator
    from fusion.zoo.store import load as load

__version__ = "0.1.0"
hookimpl = pluggy.HookimplMarker("fusion")

# Public name -> its module; large packages are imported only when a name is used.
_PUBLIC = {
    "run": "fusion.app",
    **dict.fromkeys(
        ("energy", "relax", "vibrations", "scan", "ts", "md", "conformers", "compare"), "fusion.app.functions"
    ),
    "result": "fusion.app.run_result",
    "calculator": "fusion.methods.ase_calculator",
    "kohn_sham": "fusion.functionals.scf.kohn_sham",
    "load": "fusion.zoo.store",
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fusion' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
