"""Bonds of a molecule by distances, turns about them, and displacements along normal modes. Atomic units."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from ase.data import covalent_radii

from fusion.chemistry import units
from fusion.chemistry.system import System
from fusion.tasks.geometry.normal_modes import NormalModes

BOND: Final = 1.3
"""Two atoms are bonded if nearer than this multiple of the sum of their covalent radii."""

STRETCHED: Final = 1.5
"""A bond longer than this multiple of its length in the start counts as broken."""

CLASH: Final = 0.75
"""Atoms without a bond are not nearer than this multiple of the sum of their covalent radii."""

SOFTEST_CM1: Final = 100.0
"""Modes softer than this are displaced as if they had this wavenumber: straight lines do not follow large turns."""


@dataclass(frozen=True)
class Bonds:
    """Bonds of a molecule: pairs of atoms (b, 2), and their lengths (b,) in the start."""

    system: System
    pairs: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, system: System) -> Bonds:
        """Find the bonds by distances."""
        first, second = np.triu_indices(len(system.symbols), 1)
        distances = np.linalg.norm(system.positions[first] - system.positions[second], axis=1)
        bonded = distances < BOND * _radii(system)[first, second]
        return cls(system, np.stack((first, second), axis=1)[bonded], distances[bonded])

    def intact(self, positions: np.ndarray) -> np.ndarray:
        """Mask (B,): True where in positions (B, A, 3) no bond is broken and no atoms clash."""
        vectors = positions[:, self.pairs[:, 0]] - positions[:, self.pairs[:, 1]]
        ratio = np.linalg.norm(vectors, axis=2) / self.lengths
        whole = ((ratio < STRETCHED) & (ratio > 1 / STRETCHED)).all(axis=1)
        first, second = self._apart
        apart = np.linalg.norm(positions[:, first] - positions[:, second], axis=2)
        return np.asarray(whole & (apart > CLASH * _radii(self.system)[first, second]).all(axis=1))

    @cached_property
    def rotatable(self) -> list[tuple[int, int, np.ndarray]]:
        """Bonds about which a part of the molecule can turn: its two atoms and the atoms beyond the second one.

        They are in no ring, and both atoms have further neighbours.
        """
        found = []
        for a, b in self.pairs.tolist():
            beyond = self._reached(b, without=(a, b))
            if a not in beyond and len(beyond) > 1 and len(self._reached(a, without=(a, b))) > 1:
                found.append((a, b, np.array(sorted(beyond - {b}))))
        return found

    @cached_property
    def _apart(self) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of atoms with at least three bonds between them."""
        near = np.eye(len(self.system.symbols), dtype=int)
        near[tuple(self.pairs.T)] = near[tuple(self.pairs.T[::-1])] = 1
        first, second = np.triu_indices(len(near), 1)
        far = (near @ near)[first, second] == 0
        return first[far], second[far]

    def _reached(self, start: int, without: tuple[int, int]) -> set[int]:
        """Atoms that are connected to `start` by bonds other than one."""
        reached, new = {start}, [start]
        while new:
            atom = new.pop()
            for pair in self.pairs.tolist():
                if atom in pair and set(pair) != set(without):
                    other = pair[1 - pair.index(atom)]
                    if other not in reached:
                        reached.add(other)
                        new.append(other)
        return reached


def turned(bonds: Bonds, number: int, random: np.random.Generator) -> np.ndarray:
    """Geometries (n, A, 3), n <= `number`, in which every rotatable bond is turned by a random angle."""
    found = []
    for _ in range(20 * number):
        positions = bonds.system.positions.copy()
        for a, b, beyond in bonds.rotatable:
            axis = positions[b] - positions[a]
            positions[beyond] = _rotated(positions[beyond], positions[b], axis, random.uniform(0, 2 * np.pi))
        if bonds.intact(positions[None])[0]:
            found.append(positions)
        if len(found) == number:
            break
    return np.array(found).reshape(-1, *bonds.system.positions.shape)


def scales(modes: NormalModes) -> np.ndarray:
    """Displacements W (3A, m), bohr/hartree^1/2, of the normal modes over the roots of their curvatures.

    The curvature is m w^2, for a reduced mass m and an angular frequency w.
    """
    wavenumbers = np.maximum(np.abs(modes.frequencies), SOFTEST_CM1)
    curvature = modes.reduced_masses * units.ELECTRON_MASSES_PER_DALTON * (wavenumbers / units.CM1_PER_HARTREE) ** 2
    return np.asarray(modes.displacements.reshape(len(curvature), -1).T / np.sqrt(curvature))


def displaced(
    positions: np.ndarray, scaled: np.ndarray, temperature_k: float, number: int, random: np.random.Generator
) -> np.ndarray:
    """Displace positions (A, 3) `number` times along modes W = `scaled` (3A, m), each with the energy k T / 2 on
    average: by sqrt(k T) W xi, xi normally distributed."""
    amounts = np.sqrt(temperature_k * units.HARTREE_PER_KELVIN) * random.normal(size=(number, scaled.shape[1]))
    return np.asarray(positions + (amounts @ scaled.T).reshape(number, *positions.shape))


def _radii(system: System) -> np.ndarray:
    """Sums (A, A) of covalent radii, bohr."""
    radii = covalent_radii[system.numbers] * units.BOHR_PER_ANGSTROM
    return np.asarray(radii[:, None] + radii[None])


def _rotated(points: np.ndarray, origin: np.ndarray, axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotate points (n, 3) about a line by Rodrigues' formula."""
    unit, vectors = axis / np.linalg.norm(axis), points - origin
    parallel = np.outer(vectors @ unit, unit)
    return np.asarray(
        origin + parallel + (vectors - parallel) * np.cos(angle) + np.cross(unit, vectors) * np.sin(angle)
    )
