"""Springs or Morse bonds between pairs of atoms, whose forces have Gaussian noise of known standard deviation.

V = sum k/2 (r - r0)^2, or of a Morse bond with the same curvature k; bonds to hydrogen have k = 0.37 hartree/bohr^2 and
r0 = 1.4 (to hydrogen) or 1.8 bohr, the spring between the hydrogens of a triatomic k = 0.1 and r0 = 2.9 bohr.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from fusion.chemistry import energy_zeros
from fusion.chemistry.system import System
from fusion.runs.results import Result

WIDTH = 1.1  # of the Morse bonds, 1/bohr


class Noisy:
    """`sigma`: standard deviation of every component of the forces; 0.1 sigma is that of the energy.

    With `errors=false` the method is exact and has no error bars. A calculation draws its noise from the seed and its
    number, which is the memory of the method.
    """

    remembers, energy_zero = True, energy_zeros.TOTAL

    def __init__(
        self,
        sigma: float = 3e-3,
        morse: bool = True,
        seed: int = 0,
        errors: bool = True,
        converged: bool = True,
        name: str = "noisy",
        **_: Any,
    ) -> None:
        self.name, self.label, self.kind, self.number = name, name, "conventional", 0
        self.sigma, self.morse, self.seed, self.errors, self.converged = sigma, morse, seed, errors, converged
        more = {"energy_stderr", "forces_stderr"} if errors else set()
        self.provides = frozenset({"energy", "forces"} | more)

    def memory(self) -> dict[str, Any]:
        return {"number": self.number}

    def recall(self, memory: Mapping[str, Any]) -> None:
        self.number = memory.get("number", 0)

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        return [self.one(system) for system in systems]

    def one(self, system: System) -> Result:
        noise = np.random.default_rng([self.seed, self.number])
        self.number += 1
        energy, forces = exact(system, self.morse)
        if not self.errors:
            return Result(system, energy=energy, properties={"forces": forces})
        forces += self.sigma * noise.standard_normal(forces.shape)
        errors = np.full(forces.shape, self.sigma)
        energy += 0.1 * self.sigma * noise.standard_normal()
        properties = {"forces": forces, "forces_stderr": errors}
        status, message = ("ok", None) if self.converged else ("not_converged", "more steps")
        return Result(system, status, energy, 0.1 * self.sigma, properties=properties, message=message)


def exact(system: System, morse: bool) -> tuple[float, np.ndarray]:
    """Energy and forces (A, 3) without noise."""
    energy, forces = 0.0, np.zeros_like(system.positions)
    for first, second in combinations(range(len(system.symbols)), 2):
        hydrogens = system.symbols[first] == system.symbols[second]
        angle = hydrogens and len(system.symbols) > 2
        k, rest = (0.1, 2.9) if angle else (0.37, 1.4 if hydrogens else 1.8)
        vector = system.positions[first] - system.positions[second]
        distance = float(np.linalg.norm(vector))
        if morse and not angle:
            decay = np.exp(-WIDTH * (distance - rest))
            depth = k / (2 * WIDTH**2)
            energy += depth * (1 - decay) ** 2
            slope = 2 * depth * WIDTH * (1 - decay) * decay
        else:
            energy += 0.5 * k * (distance - rest) ** 2
            slope = k * (distance - rest)
        forces[first] -= slope * vector / distance
        forces[second] += slope * vector / distance
    return energy, forces
