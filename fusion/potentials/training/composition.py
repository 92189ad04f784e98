"""Self energies from labels: least squares over the compositions, nearest to prior values.

The compositions may not determine every element (one molecule only, a fixed ratio of two elements). The sums over atoms
are fitted even then; undetermined directions keep their prior values (the minimum-norm solution around the prior).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_CUTOFF = 1e-8  # relative singular values below which a direction is not determined


def counts(numbers: np.ndarray, offsets: np.ndarray, elements: Sequence[int]) -> np.ndarray:
    """Count the atoms of each element of `elements` (atomic numbers) in each structure: (M, E).

    `numbers` (N,) are the atomic numbers of all structures in a row, `offsets` (M + 1,) their boundaries.
    """
    place = np.full(256, -1)
    place[list(elements)] = np.arange(len(elements))
    structure = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    atoms = np.zeros((len(offsets) - 1, len(elements)))
    np.add.at(atoms, (structure, place[numbers]), 1.0)
    return atoms


def guess(elements: Sequence[int]) -> np.ndarray:
    """Estimate atomic energies (E,), hartree, within a few per cent: -Z^2.39 / 2, the exact trend up to argon."""
    return -0.5 * np.asarray(elements, dtype=np.float64) ** 2.39


def fit(compositions: np.ndarray, energies: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Fit self energies (E,), hartree, that minimise |compositions @ values - energies| and are nearest to `prior`.

    `compositions` (M, E) and `energies` (M,), hartree, must be finite. Elements that do not occur keep their prior.
    """
    distinct, place, multiplicity = np.unique(compositions, axis=0, return_inverse=True, return_counts=True)
    means = np.zeros(len(distinct))
    np.add.at(means, place.ravel(), energies - compositions @ prior)
    scale = np.sqrt(multiplicity)
    u, singular, vt = np.linalg.svd(distinct * scale[:, None], full_matrices=False)
    determined = singular > _CUTOFF * singular[0]
    inverse = np.where(determined, 1.0 / np.where(determined, singular, 1.0), 0.0)
    return prior + vt.T @ (inverse * (u.T @ (means / scale)))
