"""From the spread of an ensemble's members to an uncertainty, and to what lies outside of the data.

Both come from structures held out of the training, by split conformal prediction: of n + 1 numbers that might as well
have come in any other order, the last exceeds the k-th smallest of the others with a probability of 1 - k / (n + 1) (at
most), whatever their distribution. For potentials: Hu, Musielewicz, Ulissi, Medford, Mach. Learn.: Sci. Technol. 3,
045028 (2022). The promise is for structures drawn as the held-out ones were, and for no others. Atomic units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

FEWEST: Final = 20
"""Structures that a factor is taken from at least; its relative error is then about a fifth."""
ONE_SIGMA: Final = math.erf(1.0 / math.sqrt(2.0))
"""Share of a normal distribution within one standard deviation."""
_INSIDE: Final = 0.999
"""Share of structures like the held-out ones that is to count as inside, where these are enough to tell."""


@dataclass(frozen=True)
class ForceFactor:
    """On the members' standard deviation of a component of a force, so that `ONE_SIGMA` of the errors are within it;
    `low` and `high` as of `Uncertainty`, from the differences of the `structures` rather than of their components,
    which are not independent."""

    factor: float
    low: float
    high: float
    structures: int
    components: int


@dataclass(frozen=True)
class Uncertainty:
    """What n = `structures` held-out structures say about the members' standard deviation (ddof=1).

    Times `factor` it is one that `ONE_SIGMA` of the errors do not exceed; `low` and `high` are where the factor would
    lie with other structures, two times out of three. `limit`, in hartree per sqrt(atom), is for the scaled deviation:
    the largest of fewer than a thousand structures. Of structures like these a share of `beyond` at most exceeds it.
    """

    factor: float
    low: float
    high: float
    limit: float
    beyond: float
    structures: int


def calibrated(std: np.ndarray, errors: np.ndarray, atoms: np.ndarray) -> Uncertainty | None:
    """From the members' standard deviations, the errors of their mean (hartree) and numbers of atoms, each (n,).

    What is not finite, and a deviation of nothing, does not count. None where fewer than `FEWEST` are left.
    """
    known = np.isfinite(std) & np.isfinite(errors) & (std > 0.0)
    number = int(known.sum())
    if number < FEWEST:
        return None
    ratio = np.sort(np.abs(errors[known]) / std[known])
    factor, low, high = (float(ratio[_rank(number, ONE_SIGMA, sigmas) - 1]) for sigmas in (0.0, -1.0, 1.0))
    scaled = np.sort(factor * std[known] / np.sqrt(atoms[known]))
    rank = _rank(number, _INSIDE)
    return Uncertainty(factor, low, high, float(scaled[rank - 1]), 1.0 - rank / (number + 1), number)


def calibrated_forces(std: np.ndarray, errors: np.ndarray, structure: np.ndarray) -> ForceFactor | None:
    """From deviations and errors (N, 3), hartree/bohr, of atoms of the structures numbered in `structure` (N,).

    None where fewer than `FEWEST` structures have any.
    """
    known = np.isfinite(std) & np.isfinite(errors) & (std > 0.0)
    ratio, owner = (np.abs(errors)[known] / std[known]), np.broadcast_to(structure[:, None], std.shape)[known]
    _, owner, counts = np.unique(owner, return_inverse=True, return_counts=True)
    number = len(counts)
    if number < FEWEST:
        return None
    ordered = np.sort(ratio)
    found = float(ordered[_rank(len(ratio), ONE_SIGMA) - 1])
    # Of how many components of each structure more or fewer are within than of all: how far the share may be off.
    surplus = np.bincount(owner, ratio <= found) - ONE_SIGMA * counts
    off = float(np.linalg.norm(surplus)) / len(ratio)
    low, high = (float(ordered[_rank(len(ratio), min(max(ONE_SIGMA + by, 0.0), 1.0)) - 1]) for by in (-off, off))
    return ForceFactor(found, low, high, number, len(ratio))


def factor(std: np.ndarray, errors: np.ndarray) -> float:
    """On standard deviations (n,), n > 0, so that `ONE_SIGMA` of the errors are within one of them."""
    return float(np.sort(np.abs(errors) / std)[_rank(len(std), ONE_SIGMA) - 1])


def _rank(number: int, share: float, sigmas: float = 0.0) -> int:
    """Of the smallest of `number` values that covers a `share` of those to come, counted from 1 and as many as there
    are at most; moved by that many standard deviations of the number that is covered."""
    moved = math.ceil((number + 1) * share) + round(sigmas * math.sqrt(number * share * (1.0 - share)))
    return min(max(moved, 1), number)
