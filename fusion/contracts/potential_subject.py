"""Potential whose contract is checked, with its energies and derivatives in float64 on the CPU. Atomic units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fusion.chemistry.system import System
from fusion.contracts import molecules
from fusion.contracts.findings import Broken
from fusion.potentials import PotentialMethod, abilities, collate
from fusion.potentials.derivatives import evaluate


@dataclass(frozen=True)
class Subject:
    """Method whose model is checked, in float64 on the CPU, with the system of `+method=NAME`."""

    method: PotentialMethod
    default: System
    package: Path | None = None

    @cached_property
    def model(self) -> Any:
        """The model in evaluation mode."""
        return self.method.model

    @cached_property
    def systems(self) -> list[System]:
        """Small molecules of different sizes that the method accepts. Raises Broken if there are none."""
        chosen = molecules.small(abilities.elements(self.model), lambda system: self.method.check([system]))
        if not chosen:
            raise Broken("the method accepts none of the test molecules; its `elements` may be wrong")
        return chosen

    @property
    def names(self) -> str:
        """Names of the systems."""
        return ", ".join(system.formula for system in self.systems)

    def energies(self, systems: Sequence[System]) -> np.ndarray:
        """Energies (B,) of one batch."""
        return np.asarray(self._evaluated(systems, ())[0].detach().double())

    def forces(self, systems: Sequence[System]) -> np.ndarray:
        """Forces (B, A, 3) of one batch, padded with zeros."""
        return np.asarray(self._evaluated(systems, {"forces"})[1]["forces"].double())

    def stress(self, system: System) -> np.ndarray:
        """Stress (3, 3)."""
        return np.asarray(self._evaluated([system], {"stress"})[1]["stress"][0].double())

    def hessian(self, system: System) -> np.ndarray:
        """Hessian (3A, 3A)."""
        size = 3 * len(system.symbols)
        return np.asarray(self._evaluated([system], {"hessian"})[1]["hessian"].double()).reshape(size, size)

    def _evaluated(self, systems: Sequence[System], properties: Iterable[str]) -> tuple[Tensor, dict[str, Tensor]]:
        prediction, derivatives = evaluate(self.model, collate(systems), properties)
        return prediction.energy, derivatives
