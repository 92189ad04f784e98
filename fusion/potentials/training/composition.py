"""Self energies from labels: least squares over the compositions, as close as they allow to what is known before.

Where the compositions do not determine every element (one molecule only, a fixed ratio of two elements) the sums over
atoms are still fitted, and what they leave open stays at the prior values: the solution of minimum norm around them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_CUTOFF = 1e-8  # relative singular values below which a direction is not determined


def counts(numbers: np.ndarray, offsets: np.ndarray, elements: Sequence[int]) -> np.ndarray:
    """(M, E) atoms of each of `elements` (atomic numbers) in structures of atoms `numbers` (N,), `offsets` (M + 1,)."""
    place = np.full(256, -1)
    place[list(elements)] = np.arange(len(elements))
    structure = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    found = np.zeros((len(offsets) - 1, len(elements)))
    np.add.at(found, (structure, place[numbers]), 1.0)
    return found


def guess(elements: Sequence[int]) -> np.ndarray:
    """Energies (E,) of atoms within a few per cent, hartree: -Z^2.39 / 2, the trend of the exact ones up to argon."""
    return -0.5 * np.asarray(elements, dtype=np.float64) ** 2.39


def fit(compositions: np.ndarray, energies: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Self energies (E,) in hartree that minimise |compositions @ values - energies|, nearest to `prior` of those.

    `compositions` (M, E), `energies` (M,) hartree, without what is not a number. Elements that do not occur keep their
    prior.
    """
    distinct, place, multiplicity = np.unique(compositions, axis=0, return_inverse=True, return_counts=True)
    means = np.zeros(len(distinct))
    np.add.at(means, place.ravel(), energies - compositions @ prior)
    scale = np.sqrt(multiplicity)
    u, singular, vt = np.linalg.svd(distinct * scale[:, None], full_matrices=False)
    determined = singular > _CUTOFF * singular[0]
    inverse = np.where(determined, 1.0 / np.where(determined, singular, 1.0), 0.0)
    return prior + vt.T @ (inverse * (u.T @ (means / scale)))
