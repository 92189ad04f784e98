"""fusion: learned quantum chemistry.

Potentials, density functionals and wavefunctions behind one calculation interface.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from fusion.app import run as run
    from fusion.calculators import calculator as calculator
    from fusion.functionals.kohn_sham import kohn_sham as kohn_sham
    from fusion.zoo.store import load as load

__version__ = "0.1.0"
hookimpl = pluggy.HookimplMarker("fusion")

# Public name -> the module that has it; nothing heavy is imported before a name is used.
_PUBLIC = {
    "run": "fusion.app",
    "calculator": "fusion.calculators",
    "kohn_sham": "fusion.functionals.kohn_sham",
    "load": "fusion.zoo.store",
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fusion' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
