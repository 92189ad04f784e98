"""Homogeneous electron gas: electrons in a cubic cell whose uniform positive background makes it neutral."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np

from fusion.chemistry.system import System
from fusion.errors import InputError

_NOT_OF_A_GAS = ("charge", "ecp", "atoms", "symbols", "positions", "path")
"""Keys of systems with nuclei."""


def electron_gas(rs: float, electrons: int, spin: int, name: str = "heg") -> System:
    """Build the gas of `electrons` in a cube of edge L = (4 pi N / 3)^(1/3) rs bohr, with spin = N_up - N_down.

    Raises InputError unless both spins fill closed shells of plane waves at Gamma, so that real plane waves are its
    Hartree-Fock orbitals.
    """
    edge = (4 * np.pi * electrons / 3) ** (1 / 3) * rs
    gas = System(
        name,
        (),
        np.zeros((0, 3)),
        spin=spin,
        cell=edge * np.eye(3),
        pbc=(True, True, True),
        background=electrons,
    )
    for number, label in ((gas.n_up, "up"), (gas.n_down, "down")):
        if number and number not in closed_shells(number):
            raise InputError(
                f"system.electrons={electrons}: {number} spin-{label} electrons fill no closed shell of plane waves; "
                f"closed shells have {', '.join(map(str, closed_shells(57)))} ... electrons per spin: "
                "system.electrons=14 with system.spin=0, or system.electrons=7 with system.spin=7"
            )
    return gas


def wigner_seitz_radius(gas: System) -> float:
    """Radius of a sphere with the volume per electron, r_s, bohr."""
    assert gas.cell is not None
    return float((3 * abs(np.linalg.det(gas.cell)) / (4 * np.pi * gas.n_electrons)) ** (1 / 3))


def closed_shells(largest: int) -> list[int]:
    """Numbers up to `largest` of plane waves n of a cubic cell, n integer, that fill all |n| up to some length."""
    reach = int(largest ** (1 / 3)) + 1
    squared = sorted(x * x + y * y + z * z for x, y, z in product(range(-reach, reach + 1), repeat=3))
    within = [i for i in range(1, len(squared)) if squared[i] > squared[i - 1] and squared[i - 1] <= reach * reach]
    return [number for number in within if number <= largest]


def read(config: Mapping[str, Any], spin: int | None) -> System:
    """Read the gas with the `rs` (bohr) and `electrons` of a `conf/system` node. Raises InputError.

    `spin` is N_up - N_down; None for the lowest possible.
    """
    for key in _NOT_OF_A_GAS:
        if config.get(key):
            raise InputError(f"system.{key}: the electron gas has no nuclei and no charge; remove it, or system.rs")
    rs, electrons = config["rs"], config.get("electrons")
    if isinstance(rs, bool) or not isinstance(rs, int | float) or not 0 < rs < np.inf:
        raise InputError(f"system.rs must be a positive number of bohr, not {rs!r}")
    if isinstance(electrons, bool) or not isinstance(electrons, int) or electrons < 1:
        raise InputError(f"system.electrons must be a whole number of at least 1, not {electrons!r}")
    return electron_gas(float(rs), electrons, electrons % 2 if spin is None else spin, str(config.get("name") or "heg"))
