"""Wavefunction whose contract is checked, with its system and walkers, in float64 on the CPU. Atomic units."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from fusion.chemistry.system import System
from fusion.contracts.findings import Broken
from fusion.errors import InputError
from fusion.wavefunctions import AnsatzMethod

WALKERS: Final = 6
SYSTEMS: Final = (
    System("LiH", ("Li", "H"), [[0.0, 0.0, 0.0], [0.0, 0.0, 3.015]]),  # type: ignore[arg-type]
    System("Be", ("Be",), [[0.0, 0.0, 0.0]]),  # type: ignore[arg-type]
    System("Li", ("Li",), [[0.0, 0.0, 0.0]], spin=1),  # type: ignore[arg-type]
    System("H2", ("H", "H"), [[0.0, 0.0, 0.0], [0.0, 0.0, 1.401]]),  # type: ignore[arg-type]
    System("He", ("He",), [[0.0, 0.0, 0.0]]),  # type: ignore[arg-type]
    System("H", ("H",), [[0.0, 0.0, 0.0]], spin=1),  # type: ignore[arg-type]
)
"""Systems in the order in which they are tried; the first one that the wavefunction accepts is taken."""


@dataclass(frozen=True)
class Subject:
    """Method whose wavefunction is checked, in float64 on the CPU, with the system of `+method=NAME`."""

    method: AnsatzMethod
    default: System
    package: Path | None = None

    @cached_property
    def system(self) -> System:
        """The first of `SYSTEMS`, or the method's own system, for which the wavefunction can be built."""
        reasons = []
        for system in (*SYSTEMS, self.default):
            try:
                self.method.ansatz(system)
            except InputError as error:
                reasons.append(str(error))
                continue
            return system
        raise Broken(f"the wavefunction refuses all test systems: {reasons[-1]}")

    @cached_property
    def ansatz(self) -> Any:
        """The wavefunction, from a fixed seed."""
        return self.built(0)

    def built(self, seed: int) -> Any:
        """Build the wavefunction with random parameters from `seed`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.method.ansatz(self.system)

    @cached_property
    def electrons(self) -> Tensor:
        """Walkers (B, N, 3) around the nuclei."""
        generator = torch.Generator().manual_seed(1)
        nuclei = torch.tensor(self.system.positions, dtype=torch.float64)
        homes = nuclei[torch.arange(self.system.n_electrons) % len(nuclei)]
        noise = torch.randn(WALKERS, self.system.n_electrons, 3, generator=generator, dtype=torch.float64)
        return homes + 0.8 * noise
