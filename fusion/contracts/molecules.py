"""Small systems on which contracts are checked, made of the elements that a model has. Lengths in bohr."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from fusion.chemistry.system import System
from fusion.chemistry.units import BOHR_PER_ANGSTROM
from fusion.errors import InputError

_NAMES = ("H2O", "CH3OH", "NH3", "CH4", "HCN", "H2", "N2", "HF", "HCl", "SiH4", "LiH", "NaCl", "CO2")
"""Molecules of ASE's G2 set, in the order in which they are tried."""
_DISPLACED = 0.05
"""Standard deviation of the random displacements, which leave no symmetry."""


def small(elements: Sequence[str] | None, accepted: Callable[[System], None], most: int = 3) -> list[System]:
    """Return up to `most` molecules of `elements` (None: any) that `accepted` does not refuse by InputError.

    Without any, chains of the elements themselves are tried; the list may be empty.
    """
    from ase.build import molecule

    chosen: list[System] = []
    for name in _NAMES:
        atoms = molecule(name)
        symbols = tuple(atoms.get_chemical_symbols())
        if elements is None or set(symbols) <= set(elements):
            chosen += _accepted(System(name, symbols, _moved(atoms.positions * BOHR_PER_ANGSTROM)), accepted)
        if len(chosen) == most:
            return chosen
    for system in _chains(elements or ()):
        chosen += _accepted(system, accepted)
    return chosen[:most]


def of_all(elements: Sequence[str]) -> list[System]:
    """Return chains of atoms that together have every element, two of each; nothing has to accept them."""
    rows = [tuple(elements[start : start + 4]) for start in range(0, len(elements), 4)]
    return [chain((*row, *row)) for row in rows]


def chain(symbols: Sequence[str]) -> System:
    """Return a bent chain of atoms, each at about the length of a bond from the last."""
    from ase.data import atomic_numbers, covalent_radii

    radii = [covalent_radii[atomic_numbers[symbol]] * BOHR_PER_ANGSTROM for symbol in symbols]
    steps = np.array([[1.0, 0.0, 0.0], [0.3, 0.95, 0.0], [0.9, 0.1, 0.42]])
    positions = np.zeros((len(symbols), 3))
    for index, (first, second) in enumerate(pairwise(radii)):
        positions[index + 1] = positions[index] + 1.1 * (first + second) * steps[index % 3]
    return System("".join(symbols), tuple(symbols), _moved(positions), spin=_parity(symbols))


def _chains(elements: Sequence[str]) -> Iterator[System]:
    for size in (2, 3, 4):
        for start in range(max(1, len(elements) - 1)):
            row = [elements[(start + index) % len(elements)] for index in range(size)] if elements else []
            if row and _parity(row) == 0:
                yield chain(row)


def _accepted(system: System, accepted: Callable[[System], None]) -> list[System]:
    try:
        accepted(system)
    except InputError:
        return []
    return [system]


def _parity(symbols: Sequence[str]) -> int:
    from ase.data import atomic_numbers

    return sum(atomic_numbers[symbol] for symbol in symbols) % 2


def _moved(positions: np.ndarray) -> np.ndarray:
    random = np.random.default_rng(len(positions))
    return positions + _DISPLACED * random.normal(size=positions.shape)
