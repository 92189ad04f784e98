"""Spread of an ensemble's members for differences of energies. It is smaller than for the energies themselves, because
errors common to all structures cancel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fusion.methods import protocol

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method

MEMBERS = "energy_members"


def member_energies(method: Method, systems: Sequence[System]) -> np.ndarray | None:
    """Energies (systems, M) in hartree from every member of an ensemble, in one call; None for any other method."""
    if MEMBERS not in method.provides or not systems:
        return None
    results = protocol.calculate(method, systems, {"energy", MEMBERS})
    if any(MEMBERS not in result.properties for result in results):
        return None
    return np.stack([np.asarray(result.properties[MEMBERS]) for result in results])


def spreads_of_differences(members: np.ndarray, zero: int | np.ndarray) -> np.ndarray:
    """Standard deviations (systems,) in hartree, ddof=1, of the members' energies relative to those of the system, or
    systems, at the index `zero`."""
    return np.asarray((members - members[zero]).std(axis=1, ddof=1))
