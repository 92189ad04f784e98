"""Occupation numbers of spin orbitals, fractional ones included: ensembles with fractional charges and spins.

Perdew, Parr, Levy and Balduz, Phys. Rev. Lett. 49, 1691 (1982); Cohen, Mori-Sanchez and Yang, Science 321, 792 (2008).
Mixing orbitals with equal occupations does not change the density: the energy is stationary when the Fock matrix does
not couple orbitals i, j with n_i != n_j.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from fusion.errors import InputError


def checked(occupations: Any, orbitals: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the occupations (up, down) as arrays, from the lowest orbital on. `orbitals` is the size of the basis.

    Raises InputError unless there are two lists of numbers from 0 to 1, no longer than the basis.
    """
    try:
        up, down = (np.asarray(list(numbers), dtype=float) for numbers in occupations)
    except (TypeError, ValueError):
        raise InputError(
            f"occupations are two lists, of spin up and of spin down, such as [[1, 0.5], [1]], not {occupations}"
        ) from None
    for spin, numbers in (("up", up), ("down", down)):
        if numbers.size > orbitals:
            raise InputError(f"occupations of {numbers.size} orbitals of spin {spin}; the basis has only {orbitals}")
        outside = numbers[~((numbers >= 0.0) & (numbers <= 1.0))]
        if outside.size:
            raise InputError(f"the occupation of a spin orbital lies between 0 and 1; spin {spin} has {outside[0]:g}")
    if up.sum() + down.sum() <= 0.0:
        raise InputError("occupations without any electron")
    return up, down


def are_whole(occupations: Iterable[Sequence[float] | np.ndarray]) -> bool:
    """True if every orbital is empty or full."""
    return all(np.isin(np.asarray(numbers), (0.0, 1.0)).all() for numbers in occupations)


def by_energy(energies: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Occupations (n,) of orbitals with `energies` (n,): `numbers` from the lowest on, the others empty."""
    occupations = np.zeros(len(energies))
    occupations[np.argsort(energies.round(9), kind="stable")[: len(numbers)]] = numbers
    return occupations


def by_overlap(
    densities: np.ndarray, overlap: np.ndarray, electrons: Sequence[int]
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a `get_occ` that fills, for each spin, the orbitals (n, m) that overlap most with `densities`."""
    projectors = [overlap @ density @ overlap for density in densities]

    def get_occ(mo_energy: np.ndarray, mo_coeff: np.ndarray) -> np.ndarray:
        numbers = np.zeros(np.shape(mo_energy))
        for spin, (projector, orbitals, number) in enumerate(zip(projectors, mo_coeff, electrons, strict=True)):
            shares = np.einsum("ni,nm,mi->i", orbitals, projector, orbitals, optimize=True)
            numbers[spin, np.argsort(-shares, kind="stable")[:number]] = 1.0
        return numbers

    return get_occ


def coupling(coefficients: np.ndarray, numbers: np.ndarray, fock: np.ndarray) -> np.ndarray:
    """Gradient of the energy by rotations of the orbitals (n, m) of one spin: (n_i - n_j) F_ij.

    Pairs i < j with equal occupations are left out.
    """
    matrix = coefficients.T @ fock @ coefficients
    first, second = np.nonzero(np.triu(numbers[:, None] != numbers[None, :], k=1))
    return np.asarray((numbers[first] - numbers[second]) * matrix[first, second])


def canonical(coefficients: np.ndarray, numbers: np.ndarray, fock: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orbital energies (m,) and orbitals (n, m) that diagonalise the Fock matrix among orbitals of equal occupation."""
    energies, rotated = np.zeros(len(numbers)), coefficients.copy()
    for number in np.unique(numbers):
        alike = numbers == number
        block = coefficients[:, alike]
        energies[alike], vectors = np.linalg.eigh(block.T @ fock @ block)
        rotated[:, alike] = block @ vectors
    return energies, rotated


def aufbau_broken_by(energies: np.ndarray, numbers: np.ndarray) -> float:
    """Largest energy (hartree) of an orbital above a less occupied one; 0 if the lowest orbitals are filled first."""
    worst = 0.0
    for number in np.unique(numbers):
        fuller, emptier = energies[numbers >= number], energies[numbers < number]
        if fuller.size and emptier.size:
            worst = max(worst, float(fuller.max() - emptier.min()))
    return worst
