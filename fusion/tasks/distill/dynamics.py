"""Langevin dynamics of several copies of a molecule at once, as a source of geometries. Atomic units.

One step of the BAOAB scheme (Leimkuhler and Matthews 2013, Appl. Math. Res. Express, 34), with c = exp(-gamma dt):

    v += F dt / 2m;  x += v dt / 2;  v = c v + sqrt((1 - c^2) k T / m) xi;  x += v dt / 2;  v += F dt / 2m
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from fusion.chemistry import units
from fusion.chemistry.system import System
from fusion.methods import protocol
from fusion.methods.protocol import Method
from fusion.tasks.geometry.bonds import Bonds

STEP: Final = 0.5 / units.FEMTOSECONDS_PER_ATOMIC_TIME
"""Time step of 0.5 fs."""

FRICTION: Final = 0.005 * units.FEMTOSECONDS_PER_ATOMIC_TIME
"""Friction of 5 / ps."""

TOO_UNCERTAIN: Final = 10.0
"""A copy stops where the spread of the model is beyond its limit times this."""


@dataclass
class _Copies:
    """State of B copies: positions, velocities and forces (B, A, 3), spreads (B,)."""

    positions: np.ndarray
    velocities: np.ndarray
    forces: np.ndarray
    spreads: np.ndarray


def frames(
    method: Method,
    bonds: Bonds,
    starts: np.ndarray,
    temperatures_k: tuple[float, float],
    steps: int,
    every: int,
    random: np.random.Generator,
    show: Callable[[int], None],
    limit: float | None = None,
) -> np.ndarray:
    """Geometries (n, A, 3) of copies that start at `starts` (B, A, 3), one of each after every `every` steps.

    The temperature rises linearly between two values. A copy ends where a bond breaks, atoms clash, the method fails,
    or its spread per square root of the number of atoms exceeds `limit` (hartree) times `TOO_UNCERTAIN`. `show` is
    called with the number of steps.
    """
    system = bonds.system
    masses = system.nuclear_masses[:, None] * units.ELECTRON_MASSES_PER_DALTON
    thermal = np.sqrt(temperatures_k[0] * units.HARTREE_PER_KELVIN / masses)
    copies = _evaluated(method, system, starts, random.normal(size=starts.shape) * thermal)
    most = math.inf if limit is None else TOO_UNCERTAIN * limit * math.sqrt(len(system.symbols))
    found, drag = [], math.exp(-FRICTION * STEP)
    for step in range(1, steps + 1):
        temperature = np.interp(step / steps, (0, 1), temperatures_k)
        kick = np.sqrt((1 - drag**2) * temperature * units.HARTREE_PER_KELVIN / masses)
        velocities = copies.velocities + 0.5 * STEP * copies.forces / masses
        positions = copies.positions + 0.5 * STEP * velocities
        velocities = drag * velocities + kick * random.normal(size=velocities.shape)
        positions = positions + 0.5 * STEP * velocities
        whole = bonds.intact(positions)
        if not whole.any():
            break
        copies = _evaluated(method, system, positions[whole], velocities[whole])
        copies.velocities += 0.5 * STEP * copies.forces / masses
        kept = np.isfinite(copies.forces).all(axis=(1, 2)) & ~(copies.spreads > most)
        if not kept.any():
            break
        copies = _Copies(*(part[kept] for part in vars(copies).values()))
        if step % every == 0:
            found.append(copies.positions)
        show(step)
    return np.concatenate(found) if found else np.zeros((0, *system.positions.shape))


def spreads(method: Method, system: System, positions: np.ndarray) -> np.ndarray:
    """Standard deviations (B,) of the energies of an ensemble at positions (B, A, 3), hartree; NaN without one."""
    results = protocol.calculate(method, [system.moved(place) for place in positions], {"energy"})
    return np.array([np.nan if result.energy_std is None else result.energy_std for result in results])


def _evaluated(method: Method, system: System, positions: np.ndarray, velocities: np.ndarray) -> _Copies:
    results = protocol.calculate(method, [system.moved(place) for place in positions], {"energy", "forces"})
    forces = np.full(positions.shape, np.nan)
    deviations = np.full(len(positions), np.nan)
    for index, result in enumerate(results):
        if result.status == "ok":
            forces[index] = result.properties["forces"]
            deviations[index] = np.nan if result.energy_std is None else result.energy_std
    return _Copies(positions, velocities, forces, deviations)
