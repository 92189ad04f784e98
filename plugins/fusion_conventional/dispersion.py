"""Dispersion energies alone, to add to methods that lack them: D3(BJ) and D4, by Grimme's libraries.

D3: Grimme, Ehrlich, Goerigk, J. Comput. Chem. 32, 1456 (2011). D4: Caldeweyher, Ehlert, Hansen, Neugebauer, Spicher,
Bannwarth, Grimme, J. Chem. Phys. 150, 154122 (2019).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fusion.chemistry import energy_zeros
from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.functionals.scf import dispersion
from fusion.methods.about import About
from fusion.runs.results import Result


class Dispersion(ABC):
    """`Method` of a dispersion correction with the parameters of the functional `xc`: energy and forces of molecules.

    Raises InputError for a functional without parameters.
    """

    kind = "conventional"
    provides = frozenset({"energy", "forces"})
    energy_zero = energy_zeros.CORRECTION

    def __init__(self, name: str, xc: str, about: About | Mapping[str, Any] | None = None) -> None:
        if not isinstance(xc, str) or not xc:
            raise InputError(
                f"method.xc={xc!r} names no functional; there are parameters for b3lyp, pbe0, wb97x, hf, ..."
            )
        self.name, self.about, self.xc = name, About.read(about), xc.lower()
        self.title = self.about.title or name

    @property
    def label(self) -> str:
        """Label of runs."""
        return f"{self.title} of {self.xc}"

    def check(self, systems: Sequence[System], properties: Iterable[str] = ()) -> None:
        """Raise InputError for a periodic system, and for elements or a functional without parameters."""
        for system in systems:
            if system.cell is not None:
                raise InputError(f"{system.name} is periodic; {self.title} here is for molecules")
            self._evaluated(system)

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        """Energy and forces (A, 3) of every system; both are always computed, as forces cost next to nothing."""
        results = []
        for system in systems:
            energy, gradient = self._evaluated(system)
            results.append(Result(replace(system, reference=None), energy=energy, properties={"forces": -gradient}))
        return results

    @abstractmethod
    def _evaluated(self, system: System) -> tuple[float, np.ndarray]:
        """Energy in hartree and gradient (A, 3) in hartree/bohr."""


class D3(Dispersion):
    """D3 with the damping of Becke and Johnson, two-body terms."""

    def _evaluated(self, system: System) -> tuple[float, np.ndarray]:
        return dispersion.dispersion(system.numbers, system.positions, self.xc)


class D4(Dispersion):
    """D4: coefficients depend on the partial charges; two- and three-body terms."""

    def _evaluated(self, system: System) -> tuple[float, np.ndarray]:
        try:
            from dftd4.interface import DampingParam, DispersionModel
        except ImportError as error:
            raise InputError("+method=d4 needs the library dftd4: pip install dftd4") from error
        try:
            damping = DampingParam(method=self.xc)
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"D4 has no parameters for the functional {self.xc!r}; there are some for b3lyp, pbe0 and others"
            ) from error
        try:
            model = DispersionModel(system.numbers, system.positions, charge=float(system.charge))
            values = model.get_dispersion(damping, grad=True)
        except RuntimeError as error:
            raise CalculationError(f"D4 of {system.name}: {' '.join(str(error).split())}") from error
        return float(values["energy"]), np.asarray(values["gradient"])
