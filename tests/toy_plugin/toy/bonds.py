"""Dipoles and polarisabilities of bonds between hydrogens and other atoms, with derivatives that can be written down.

A bond of length r along the unit vector u, from the hydrogen, has the dipole (m + flux r) u and the polarisability
b(r) 1 + (a(r) - b(r)) u u, linear in r (the bond-polarisability model: D. A. Long, The Raman Effect, 2002, ch. 5).
Molecules without hydrogen: every pair of atoms is a bond. Like atoms have no dipole. Atomic units; there is no energy.
"""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from fusion.chemistry import energy_zeros
from fusion.chemistry.system import System
from fusion.runs.results import Result

MOMENT, ALONG, ACROSS = 0.1, (2.0, 3.0), (1.0, 0.5)


class Bonds:
    """`fails_at`: number (from 0) of the calculation that does not converge."""

    kind = "conventional"
    energy_zero = energy_zeros.TOTAL

    def __init__(
        self, name: str = "bonds", flux: float = 0.4, fails_at: int | None = None, analytic: bool = False
    ) -> None:
        self.name, self.flux, self.fails_at, self.calls = name, flux, fails_at, 0
        more = {"dipole_derivatives", "polarizability_derivatives"} if analytic else set()
        self.provides = frozenset({"energy", "dipole", "polarizability"} | more)

    @property
    def label(self) -> str:
        return f"Bonds(flux {self.flux:g})"

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        return [self._one(system, set(properties)) for system in systems]

    def _one(self, system: System, wanted: set[str]) -> Result:
        self.calls += 1
        if self.calls - 1 == self.fails_at:
            return Result(system, "not_converged", message="the bonds did not converge")
        computed = self.values(system)
        return Result(system, energy=0.0, properties={name: computed[name] for name in wanted - {"energy"}})

    def values(self, system: System) -> dict[str, np.ndarray]:
        dipole, alpha = np.zeros(3), np.zeros((3, 3))
        slopes, tensors = np.zeros((len(system.symbols), 3, 3)), np.zeros((len(system.symbols), 3, 3, 3))
        for i, j in itertools.combinations(range(len(system.symbols)), 2):
            if "H" in system.symbols and (system.symbols[i] == "H") == (system.symbols[j] == "H"):
                continue
            i, j = (i, j) if system.symbols[i] == "H" else (j, i)
            vector = system.positions[j] - system.positions[i]
            length = np.linalg.norm(vector)
            u = vector / length
            turn = (np.eye(3) - np.outer(u, u)) / length  # d u / d vector
            flux, moment = (0.0, 0.0) if system.symbols[i] == system.symbols[j] else (self.flux, MOMENT)
            moment += flux * length
            (a, da), (b, db) = ((c[0] + c[1] * length, c[1]) for c in (ALONG, ACROSS))
            dipole += moment * u
            alpha += b * np.eye(3) + (a - b) * np.outer(u, u)
            slope = flux * np.outer(u, u) + moment * turn
            tensor = np.einsum("k,ij->kij", u, db * np.eye(3) + (da - db) * np.outer(u, u))
            bent = np.einsum("ki,j->kij", turn, u)
            tensor += (a - b) * (bent + bent.transpose(0, 2, 1))
            for atom, sign in ((j, 1.0), (i, -1.0)):
                slopes[atom] += sign * slope
                tensors[atom] += sign * tensor
        return {
            "dipole": dipole,
            "polarizability": alpha,
            "dipole_derivatives": slopes.reshape(-1, 3),
            "polarizability_derivatives": tensors.reshape(-1, 3, 3),
        }
