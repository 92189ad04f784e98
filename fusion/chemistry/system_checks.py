"""Checks of what a `System` is made of: symbols, positions, cell, masses, fixed coordinates, charge and spin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from fusion.chemistry import cells
from fusion.chemistry.neighbours import closest_pair
from fusion.chemistry.units import ANGSTROM_PER_BOHR
from fusion.errors import InputError

CLOSEST_NUCLEI = 0.05
"""Nuclei nearer than this (bohr) count as an error of the input."""


def checked_nuclei(
    symbols: Sequence[str],
    positions: Any,
    name: str,
    cell: np.ndarray | None = None,
    pbc: tuple[bool, bool, bool] = (False, False, False),
) -> tuple[tuple[str, ...], np.ndarray]:
    """Return symbols in proper spelling and positions (A, 3) as floats. Raises InputError that names a wrong atom."""
    proper = _checked_symbols(symbols, name)
    array = checked_positions(positions, proper, name)
    _check_distances(proper, array, name, cell, pbc)
    return proper, array


def read_only(array: np.ndarray) -> np.ndarray:
    """Return the array itself, which can no longer be changed."""
    array.setflags(write=False)
    return array


def _checked_symbols(symbols: Sequence[str], name: str) -> tuple[str, ...]:
    if len(symbols) == 0:
        raise InputError(f"{name} has no atoms")
    checked = []
    for index, symbol in enumerate(symbols, start=1):
        # Lower case is unambiguous (li, cl); "CO" might be a molecule or cobalt and is refused.
        proper = symbol.capitalize() if symbol.islower() else symbol
        if atomic_numbers.get(proper, 0) == 0:
            raise InputError(f"unknown element {symbol!r} (atom {index} of {name}); write symbols like H, Li, Cl")
        checked.append(proper)
    return tuple(checked)


def checked_positions(positions: Any, symbols: Sequence[str], name: str) -> np.ndarray:
    """Return positions (A, 3) as floats. Raises InputError that names a wrong atom."""
    try:
        array = np.array(positions, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"positions of {name} must be three numbers per atom") from None
    if array.shape != (len(symbols), 3):
        raise InputError(
            f"{name} has {len(symbols)} symbols, so its positions must be {len(symbols)} rows of three numbers; "
            f"they have shape {array.shape}"
        )
    for index in np.flatnonzero(~np.isfinite(array).all(axis=1)).tolist():
        raise InputError(f"atom {index + 1} ({symbols[index]}) of {name} has a coordinate that is not a finite number")
    return array


def checked_cell(cell: Any, pbc: Sequence[bool], atoms: int, name: str) -> np.ndarray | None:
    """Return a valid cell (3, 3), or None for a molecule. Raises InputError."""
    try:
        array = None if cell is None else np.array(cell, dtype=float).reshape(3, 3)
    except (TypeError, ValueError):
        raise InputError(f"the cell of {name} must be three vectors of three numbers") from None
    fault = cells.fault(array, pbc, atoms)
    if fault is not None:
        raise InputError(f"{name} {fault}")
    return read_only(array) if array is not None and any(pbc) else None


def checked_masses(masses: Any, symbols: Sequence[str], name: str) -> np.ndarray | None:
    """Return masses (A,) in daltons, or None for natural mixtures. Raises InputError."""
    if masses is None:
        return None
    array = np.array(masses, dtype=float)
    if array.shape != (len(symbols),) or not np.all(np.isfinite(array) & (array > 0)):
        raise InputError(f"masses of {name} must be one positive number of daltons per atom")
    return read_only(array)


def checked_fixed(fixed: Any, symbols: Sequence[str], name: str) -> np.ndarray | None:
    """Return fixed coordinates (A, 3), or None if there are none. Raises InputError."""
    if fixed is None:
        return None
    array = np.array(fixed, dtype=bool)
    if array.shape != (len(symbols), 3):
        raise InputError(f"fixed coordinates of {name} must be three values of true or false per atom")
    return read_only(array) if array.any() else None


def _check_distances(
    symbols: Sequence[str], positions: np.ndarray, name: str, cell: np.ndarray | None, pbc: tuple[bool, bool, bool]
) -> None:
    closest = closest_pair(positions, cell, pbc)
    if closest is not None and closest[2] < CLOSEST_NUCLEI:
        i, j, distance = closest
        raise InputError(
            f"two nuclei on one spot: atoms {i + 1} ({symbols[i]}) and {j + 1} ({symbols[j]}) of {name} are "
            f"{distance * ANGSTROM_PER_BOHR:.3g} Angstrom apart"
        )


def check_electrons(label: str, nuclear: int, atoms: int, charge: int) -> None:
    """Raise InputError for a charge with no electrons, or with more than any state binds."""
    electrons = nuclear - charge
    if electrons <= 0:
        raise InputError(
            f"{label} with charge {charge} has no electrons: its nuclei have {nuclear} positive charges, "
            f"so system.charge must be below {nuclear}"
        )
    most = 2 * nuclear + atoms - 1
    if electrons > most:
        raise InputError(
            f"{label} with charge {charge} would have {electrons} electrons; no state binds more than {most} "
            f"(Lieb's bound N < 2Z + K), so system.charge must be at least {nuclear - most}"
        )


def check_spin(label: str, electrons: int, charge: int, spin: int) -> None:
    """Raise InputError for a spin that the number of electrons excludes."""
    allowed = list(range(electrons % 2, electrons + 1, 2))
    if spin in allowed:
        return
    count = f"{electrons} electron" + ("s" if electrons > 1 else "")
    parity = "even" if electrons % 2 == 0 else "odd"
    raise InputError(
        f"{label} with charge {charge} has {count}, so system.spin (N_up - N_down) must be "
        f"{parity}: {_choice(allowed)}, not {spin}"
    )


def _choice(values: list[int]) -> str:
    shown = [str(value) for value in values]
    if len(shown) > 4:
        return f"{shown[0]}, {shown[1]}, ... {shown[-1]}"
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " or " + shown[-1]
