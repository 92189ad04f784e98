"""Uncertainties from the spread of an ensemble's members, and the limit beyond which a structure is outside the data.

Both come from structures held out of the training, by split conformal prediction: of n + 1 exchangeable numbers the
last exceeds the k-th smallest of the others with a probability of at most 1 - k / (n + 1), whatever their distribution.
For potentials: Hu, Musielewicz, Ulissi, Medford, Mach. Learn.: Sci. Technol. 3, 045028 (2022). The guarantee holds only
for structures drawn from the same distribution as the held-out ones. Atomic units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

FEWEST: Final = 20
"""Smallest number of structures for a factor; its relative error is then about a fifth."""
ONE_SIGMA: Final = math.erf(1.0 / math.sqrt(2.0))
"""Share of a normal distribution within one standard deviation."""
_INSIDE: Final = 0.999
"""Share of structures like the held-out ones that counts as inside, where there are enough of these."""


@dataclass(frozen=True)
class ForceFactor:
    """Factor on the members' standard deviation of a force component, so that it covers `ONE_SIGMA` of the errors.

    `low` and `high` as in `Uncertainty`, from the scatter between `structures`: components of one structure are not
    independent.
    """

    factor: float
    low: float
    high: float
    structures: int
    components: int


@dataclass(frozen=True)
class Uncertainty:
    """Calibration of the members' standard deviation (ddof=1) by n = `structures` held-out structures.

    `factor` times the deviation covers `ONE_SIGMA` of the errors; with other structures the factor would lie between
    `low` and `high` two times out of three. `limit`, in hartree per sqrt(atom), is for the scaled deviation: the
    largest one, for fewer than a thousand structures. At most a share `beyond` of similar structures exceeds it.
    """

    factor: float
    low: float
    high: float
    limit: float
    beyond: float
    structures: int


def calibrated(std: np.ndarray, errors: np.ndarray, atoms: np.ndarray) -> Uncertainty | None:
    """Calibrate with the members' standard deviations, the errors of their mean (hartree) and numbers of atoms (n,).

    Values that are not finite and deviations of zero are ignored. None where fewer than `FEWEST` structures remain.
    """
    usable = np.isfinite(std) & np.isfinite(errors) & (std > 0.0)
    number = int(usable.sum())
    if number < FEWEST:
        return None
    ratio = np.sort(np.abs(errors[usable]) / std[usable])
    factor, low, high = (float(ratio[_rank(number, ONE_SIGMA, sigmas) - 1]) for sigmas in (0.0, -1.0, 1.0))
    scaled = np.sort(factor * std[usable] / np.sqrt(atoms[usable]))
    rank = _rank(number, _INSIDE)
    return Uncertainty(factor, low, high, float(scaled[rank - 1]), 1.0 - rank / (number + 1), number)


def calibrated_forces(std: np.ndarray, errors: np.ndarray, structure: np.ndarray) -> ForceFactor | None:
    """Calibrate with deviations and errors (N, 3), hartree/bohr, of the atoms of structures numbered `structure` (N,).

    None where fewer than `FEWEST` structures have any.
    """
    usable = np.isfinite(std) & np.isfinite(errors) & (std > 0.0)
    ratio, owner = (np.abs(errors)[usable] / std[usable]), np.broadcast_to(structure[:, None], std.shape)[usable]
    _, owner, counts = np.unique(owner, return_inverse=True, return_counts=True)
    number = len(counts)
    if number < FEWEST:
        return None
    ordered = np.sort(ratio)
    factor = float(ordered[_rank(len(ratio), ONE_SIGMA) - 1])
    # Standard error of the coverage, from the scatter between structures.
    surplus = np.bincount(owner, ratio <= factor) - ONE_SIGMA * counts
    standard_error = float(np.linalg.norm(surplus)) / len(ratio)
    low, high = (
        float(ordered[_rank(len(ratio), min(max(ONE_SIGMA + shift, 0.0), 1.0)) - 1])
        for shift in (-standard_error, standard_error)
    )
    return ForceFactor(factor, low, high, number, len(ratio))


def factor(std: np.ndarray, errors: np.ndarray) -> float:
    """Factor on standard deviations (n,), n > 0, so that they cover `ONE_SIGMA` of the errors."""
    return float(np.sort(np.abs(errors) / std)[_rank(len(std), ONE_SIGMA) - 1])


def _rank(number: int, share: float, sigmas: float = 0.0) -> int:
    """Rank, from 1 to `number`, of the smallest of `number` values that covers a `share` of further values; shifted by
    `sigmas` standard deviations of the number covered."""
    moved = math.ceil((number + 1) * share) + round(sigmas * math.sqrt(number * share * (1.0 - share)))
    return min(max(moved, 1), number)
