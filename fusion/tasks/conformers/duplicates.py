"""Different conformers among relaxed geometries. Atomic units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy.optimize import linear_sum_assignment

from fusion.chemistry.system import System
from fusion.datasets.displacements import rotations

_ROUNDS: Final = 3


def different(systems: Sequence[System], energies: Sequence[float], energy: float, rmsd: float) -> list[list[int]]:
    """Groups of geometries that are one conformer, by ascending energy (hartree); the first of each has the lowest.

    Two geometries are one conformer if their energies differ by less than `energy` and the root of the mean squared
    distance of their atoms, after the best rotation, is below `rmsd` (bohr). Hydrogens may be exchanged.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(systems)), key=energies.__getitem__):
        for group in groups:
            near = abs(energies[index] - energies[group[0]]) < energy
            if near and distance(systems[group[0]], systems[index]) < rmsd:
                group.append(index)
                break
        else:
            groups.append([index])
    return groups


def distance(first: System, second: System) -> float:
    """Root mean squared distance (bohr) of the atoms of two geometries after the best rotation.

    Mirror images are different. Hydrogens are matched by their places after the other atoms are rotated.
    """
    heavy = first.numbers > 1
    if heavy.sum() < 3:
        heavy = np.ones(len(heavy), dtype=bool)
    target = first.positions - first.positions[heavy].mean(axis=0)
    moved = second.positions - second.positions[heavy].mean(axis=0)
    moved = moved @ rotations(moved[heavy][None], target[heavy][None])[0]
    hydrogens = np.flatnonzero(first.numbers == 1)
    order = np.arange(len(target))
    for _ in range(_ROUNDS):
        places = moved[hydrogens]
        squares = np.square(target[hydrogens][:, None] - places[None]).sum(axis=2)
        order[hydrogens] = hydrogens[linear_sum_assignment(squares)[1]]
        moved = moved[order] - moved[order].mean(axis=0)
        target = target - target.mean(axis=0)
        moved = moved @ rotations(moved[None], target[None])[0]
        order = np.arange(len(target))
    return float(np.sqrt(np.square(moved - target).sum(axis=1).mean()))
