"""Energies and other observables of single states from the mean local matrices of an evaluation, with errors.

The mean A of local energy matrices is U Lambda U^-1. To first order, a change of A changes the energy k by the diagonal
element (U^-1 dA U)_kk: the series of these elements over the iterations has the energy's mean and its correlations, so
that its blocked error is that of the energy, and likewise for gaps. Levels closer than three standard errors of their
gap cannot be told apart: noise splits equal eigenvalues or makes them a complex pair. They form one cluster, whose mean
energy is a trace and has no such error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fusion.wavefunctions.statistics import Estimate, blocked

DISTINCT = 3.0
"""Standard errors of a gap below which two levels belong to one cluster."""

EQUAL = 1e-7
"""Gap (hartree) of levels without noise below which they are equal."""

BLOCKS = 20
"""Blocks of a jackknife, for quantities that are not linear in the matrices."""


@dataclass(frozen=True)
class Spectrum:
    """Clusters of states, lowest first.

    Attributes:
        clusters: numbers of the states of each.
        series: energies (T, clusters) of all iterations, hartree, to first order.
        right, left: U and U^-1 (S, S), complex.
    """

    clusters: list[list[int]]
    series: np.ndarray
    right: np.ndarray
    left: np.ndarray

    @property
    def energies(self) -> list[Estimate]:
        """Mean energy of each cluster, hartree."""
        return [blocked(column) for column in self.series.T]

    def gap(self, lower: int, upper: int) -> Estimate:
        """Energy of a cluster minus that of another; errors of both are correlated, which this takes into account."""
        return blocked(self.series[:, upper] - self.series[:, lower])

    def mean_of(self, matrices: np.ndarray) -> list[Estimate]:
        """Mean of an observable in each cluster, from a series of local matrices (T, S, S)."""
        return [blocked(column) for column in _traces(self.left, matrices, self.right, self.clusters).T]


def spectrum(matrices: np.ndarray) -> Spectrum:
    """Diagonalise the mean of local energy matrices (T, S, S), hartree, and find the clusters."""
    energies, right, left = _diagonal(matrices.mean(0))
    number = len(energies)
    singles = [[state] for state in range(number)]
    series = _traces(left, matrices, right, singles)
    clusters: list[list[int]] = [[0]]
    for state in range(1, number):
        gap = blocked(series[:, state] - series[:, state - 1])
        together = abs(energies[state].imag) > 0 and energies[state] == np.conj(energies[state - 1])
        if together or gap.value < max(DISTINCT * gap.stderr, EQUAL):
            clusters[-1].append(state)
        else:
            clusters.append([state])
    return Spectrum(clusters, _traces(left, matrices, right, clusters), right, left)


def oscillator_strength(
    matrices: np.ndarray, dipoles: np.ndarray, clusters: Sequence[Sequence[int]], lower: int, upper: int
) -> Estimate:
    """Oscillator strength from one state of a cluster to all of a higher one, with the error of a jackknife.

    f = (2 / 3) (E_b - E_a) sum_c tr(P_a mu_c P_b mu_c) / |a| with the projectors P on both clusters: unlike single
    elements of mu, the product does not depend on the norms of the states.

    Args:
        matrices: local energy matrices (T, S, S), hartree.
        dipoles: local matrices (T, 3, S, S) of the dipole operator, e bohr.
        clusters: states of each cluster.
        lower: number of the lower cluster.
        upper: number of the higher one.
    """

    def strength(energy: np.ndarray, dipole: np.ndarray) -> float:
        energies, right, left = _diagonal(energy)
        a, b = list(clusters[lower]), list(clusters[upper])
        moments = left @ dipole @ right
        product = sum(np.sum(moment[np.ix_(a, b)] * moment[np.ix_(b, a)].T) for moment in moments)
        gap = energies[b].mean() - energies[a].mean()
        return float((2 / 3 * gap * product / len(a)).real)

    return jackknife(strength, matrices, dipoles)


def jackknife(function: Callable[..., float], *series: np.ndarray) -> Estimate:
    """Function of the means of several series (T, ...), with its error from `BLOCKS` blocks left out in turn."""
    value = function(*(part.mean(0) for part in series))
    length = len(series[0]) // BLOCKS
    if length == 0:
        return Estimate(value, float("nan"))
    used = [part[: length * BLOCKS].reshape(BLOCKS, length, *part.shape[1:]).mean(1) for part in series]
    others = [function(*((part.sum(0) - part[block]) / (BLOCKS - 1) for part in used)) for block in range(BLOCKS)]
    return Estimate(value, float(np.sqrt((BLOCKS - 1) * np.var(others))))


def _diagonal(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues by their real part, and the right and left eigenvectors, all complex."""
    energies, right = np.linalg.eig(matrix.astype(complex))
    order = np.lexsort((energies.imag, energies.real.round(12)))
    right = right[:, order]
    return energies[order], right, np.linalg.inv(right)


def _traces(left: np.ndarray, matrices: np.ndarray, right: np.ndarray, clusters: Sequence[Sequence[int]]) -> np.ndarray:
    """Mean diagonal element (T, clusters) of U^-1 A U over the states of each cluster."""
    diagonal = np.einsum("ks,tsr,rk->tk", left, matrices, right, optimize=True).real
    return np.stack([diagonal[:, list(states)].mean(1) for states in clusters], axis=1)
