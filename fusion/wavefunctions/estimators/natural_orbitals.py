"""Natural orbitals: eigenvectors of a sampled one-body density matrix, with errors of their occupations."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusion.runs.layout import DENSITY_MATRIX, NATURAL_ORBITALS
from fusion.wavefunctions.estimators.protocol import blocked_columns, with_stderr

_WEAK = 0.5  # electrons; orbitals with fewer are weakly occupied


@dataclass(frozen=True)
class NaturalOrbitals:
    """Matrices of both spins in natural orbitals of their sum.

    Attributes:
        vectors: natural orbitals in the orbitals of the sampled matrix (M, M), in columns, highest occupation first.
        mean: density matrices (2, M, M) in the natural orbitals.
        stderr: errors of their elements.
        occupations: occupations (M,) with errors: of the sum, of spin up and of spin down, each in its own orbitals.
        trace: number of electrons in the basis with its error.
    """

    vectors: np.ndarray
    mean: np.ndarray
    stderr: np.ndarray
    occupations: dict[str, tuple[np.ndarray, np.ndarray]]
    trace: tuple[float, float]

    @property
    def noise(self) -> float:
        """Largest occupation that noise alone gives to one of the weakly occupied orbitals.

        The eigenvalues of a symmetric random m x m matrix, whose elements have the standard deviation s, reach from
        -2 s sqrt(m) to 2 s sqrt(m) (Wigner 1958, Ann. Math. 67, 325).
        """
        weak = self.occupations["occupations"][0] < _WEAK
        count = int(weak.sum())
        if count < 2:
            return 0.0
        errors = (self.stderr**2).sum(0)[np.ix_(weak, weak)][np.triu_indices(count, 1)]
        return float(2 * np.sqrt(errors.mean() * count))

    def details(self, electrons: int) -> dict[str, Any]:
        """Occupations, trace and the number of electrons outside of the basis, for JSON."""
        trace, stderr = self.trace
        return {
            **{name: with_stderr(*values) for name, values in self.occupations.items()},
            "noise_of_weak_occupations": self.noise if np.isfinite(self.noise) else None,
            "electrons_in_basis": with_stderr(trace, stderr),
            "electrons_missing": with_stderr(electrons - trace, stderr),
        }

    def files(self, mol: Any, orbitals: np.ndarray) -> dict[str, bytes]:
        """Natural orbitals in Molden's format, and the matrices as a table.

        ``orbitals`` (nao, M) are those of the sampled matrix in the basis of PySCF's molecule.
        """
        return {NATURAL_ORBITALS: self._molden(mol, orbitals), DENSITY_MATRIX: self._csv()}

    def _molden(self, mol: Any, orbitals: np.ndarray) -> bytes:
        from pyscf.tools import molden

        text, occupations = io.StringIO(), self.occupations["occupations"][0]
        molden.header(mol, text)
        molden.orbital_coeff(mol, text, orbitals @ self.vectors, ene=np.zeros(len(occupations)), occ=occupations)
        return text.getvalue().encode()

    def _csv(self) -> bytes:
        lines = ["i,j,up,up_stderr,down,down_stderr"]
        for i, j in zip(*np.triu_indices(self.vectors.shape[1]), strict=True):
            values = (part[spin, i, j] for spin in (0, 1) for part in (self.mean, self.stderr))
            columns = (f"{value:.8g}" if np.isfinite(value) else "" for value in values)
            lines.append(",".join((str(i + 1), str(j + 1), *columns)))
        return "\n".join((*lines, "")).encode()


def natural_orbitals(mean: np.ndarray, series: np.ndarray) -> NaturalOrbitals:
    """Diagonalise the mean of sampled density matrices (2, M, M); errors are those of a series of means (T, 2, M, M).

    To first order in the noise, an eigenvalue v^T rho v has the error of the series v^T rho_t v.
    """
    vectors, occupations = _diagonalise(mean.sum(0))
    rotated = np.einsum("ik,tsij,jl->tskl", vectors, series, vectors, optimize=True)
    elements = blocked_columns(rotated)[1]
    both = blocked_columns(np.einsum("tskk->tk", rotated))[1]
    found = {"occupations": (occupations, both)}
    for spin, name in enumerate(("up", "down")):
        own, values = _diagonalise(mean[spin])
        own_series = np.einsum("ik,tij,jk->tk", own, series[:, spin], own, optimize=True)
        found[f"{name}_occupations"] = values, blocked_columns(own_series)[1]
    trace = float(np.trace(mean.sum(0))), float(blocked_columns(np.einsum("tsii->t", series))[1])
    return NaturalOrbitals(vectors, vectors.T @ mean @ vectors, elements, found, trace)


def _diagonalise(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvectors in columns, with a positive largest component, and eigenvalues, highest first."""
    values, vectors = np.linalg.eigh(matrix)
    vectors = vectors[:, ::-1]
    leading = vectors[np.abs(vectors).argmax(0), np.arange(len(vectors))]
    return vectors * np.sign(leading), values[::-1]
