"""Normal modes of a Hessian: harmonic frequencies with translations and rotations projected out.

If coordinates are held, only the free coordinates have modes, from their part of the Hessian (partial Hessian
vibrational analysis: Li and Jensen, Theor. Chem. Acc. 107, 211 (2002)).

Source: Wilson, Decius and Cross, Molecular Vibrations (1955); the projection as in Miller, Handy and Adams,
J. Chem. Phys. 72, 99 (1980).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusion.chemistry import units

LINEAR = 1e-4
"""A moment of inertia below this share of the largest one is that of a linear molecule (within half a degree)."""

_HELD = 1e-4
"""A rigid motion of norm one is free if it displaces the held coordinates by less than this."""

_CM1 = units.CM1_PER_HARTREE / np.sqrt(units.ELECTRON_MASSES_PER_DALTON)
"""Wavenumber of one square root of hartree/(bohr^2 dalton)."""


@dataclass(frozen=True)
class NormalModes:
    """n modes of A atoms in ascending order, without the `removed` translations and rotations."""

    frequencies: np.ndarray
    """(n,) cm^-1; an imaginary frequency is negative."""
    displacements: np.ndarray
    """(n, A, 3) Cartesian, each of norm one."""
    reduced_masses: np.ndarray
    """(n,) dalton: 1 / sum of squares of the Cartesian part of the normalised mass-weighted mode."""
    force_constants: np.ndarray
    """(n,) hartree/bohr^2, of the displacement of norm one."""
    removed: int
    residual: np.ndarray
    """(removed,) cm^-1, frequencies of the translations and rotations. They vanish for an exact Hessian at an exact
    stationary point, and so measure the noise and the remaining forces."""

    @property
    def zero_point_energy(self) -> float:
        """Half the sum of the real frequencies, hartree."""
        return 0.5 * float(self.frequencies[self.frequencies > 0].sum()) / units.CM1_PER_HARTREE


def normal_modes(
    hessian: np.ndarray,
    positions: np.ndarray,
    masses: np.ndarray,
    periodic: bool = False,
    fixed: np.ndarray | None = None,
) -> NormalModes:
    """Modes of a Hessian (3A, 3A) in hartree/bohr^2 at positions (A, 3) in bohr with masses (A,) in dalton.

    A periodic system loses only the three translations, a linear molecule two rotations as well, an atom no rotation.
    With `fixed` (A, 3) bool, the held coordinates, every free coordinate keeps its mode and nothing is projected out.
    """
    roots = np.sqrt(np.repeat(np.asarray(masses, dtype=float), 3))
    weighted = 0.5 * (hessian + hessian.T) / np.outer(roots, roots)
    external, internal = external_and_internal(positions, masses, periodic, fixed)
    values, vectors = np.linalg.eigh(internal.T @ weighted @ internal)
    cartesian = (internal @ vectors) / roots[:, None]
    reduced = 1.0 / (cartesian**2).sum(axis=0)
    return NormalModes(
        frequencies=wavenumbers(values),
        displacements=(cartesian * np.sqrt(reduced)).T.reshape(len(values), len(positions), 3),
        reduced_masses=reduced,
        force_constants=reduced * values,
        removed=external.shape[1],
        residual=wavenumbers(np.linalg.eigvalsh(external.T @ weighted @ external)),
    )


def external_and_internal(
    positions: np.ndarray, masses: np.ndarray, periodic: bool = False, fixed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal bases of mass-weighted motions: translations and rotations (3A, r), and vibrations (3A, 3A - r).

    With `fixed` (A, 3) the first is empty, and the second contains the n free coordinates (3A, n).
    """
    if fixed is not None:
        return np.empty((fixed.size, 0)), np.eye(fixed.size)[:, ~fixed.ravel()]
    motions = _rigid_motions(positions, masses, periodic)
    basis, _ = np.linalg.qr(motions, mode="complete")
    return basis[:, : motions.shape[1]], basis[:, motions.shape[1] :]


def free_rigid_motions(positions: np.ndarray, masses: np.ndarray, periodic: bool, fixed: np.ndarray) -> int:
    """Number of translations and rotations of the whole that move none of the held coordinates `fixed` (A, 3)."""
    motions = _rigid_motions(positions, masses, periodic)
    motions /= np.linalg.norm(motions, axis=0)
    return motions.shape[1] - int(np.linalg.matrix_rank(motions[fixed.ravel()], tol=_HELD))


def _rigid_motions(positions: np.ndarray, masses: np.ndarray, periodic: bool) -> np.ndarray:
    """Mass-weighted translations, and rotations about the centre of mass unless `periodic`: (3A, r)."""
    masses = np.asarray(masses, dtype=float)
    roots = np.sqrt(masses)[:, None]
    motions = [np.tile(axis, (len(masses), 1)) * roots for axis in np.eye(3)]
    if not periodic:
        centred = positions - masses @ positions / masses.sum()
        moments, axes = np.linalg.eigh(inertia(centred, masses))
        turning = moments > max(LINEAR * moments[-1], 1e-10)
        motions += [np.cross(axis, centred) * roots for axis in axes.T[turning]]
    return np.stack([motion.ravel() for motion in motions], axis=1)


def inertia(centred: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Tensor of inertia (3, 3) in dalton bohr^2 of positions (A, 3) relative to the centre of mass."""
    squares = (masses * (centred**2).sum(axis=1)).sum()
    return squares * np.eye(3) - np.einsum("a,ai,aj->ij", masses, centred, centred)


def spread(
    members: np.ndarray,
    mean: NormalModes,
    positions: np.ndarray,
    masses: np.ndarray,
    periodic: bool = False,
    fixed: np.ndarray | None = None,
) -> np.ndarray:
    """Standard deviation (n,) in cm^-1 (ddof=1) of the frequencies of M Hessians (M, 3A, 3A) at one geometry.

    Each member's modes are assigned to those of the mean Hessian by their overlap, so that crossing frequencies of
    different motions are not compared.
    """
    from scipy.optimize import linear_sum_assignment

    roots = np.sqrt(np.asarray(masses, dtype=float))[None, :, None]
    reference = _normalised(mean.displacements * roots)
    frequencies = np.empty((len(members), len(mean.frequencies)))
    for number, hessian in enumerate(members):
        modes = normal_modes(hessian, positions, masses, periodic, fixed)
        overlap = (reference @ _normalised(modes.displacements * roots).T) ** 2
        row, column = linear_sum_assignment(-overlap)
        frequencies[number, row] = modes.frequencies[column]
    return frequencies.std(axis=0, ddof=1)


def largest_movers(displacement: np.ndarray, symbols: Sequence[str], most: int = 3) -> list[tuple[str, int, float]]:
    """Symbol, number from 1 and share of the squared displacement of the atoms that move most in a mode (A, 3).

    As many atoms as carry four fifths of the displacement, at most `most`.
    """
    shares = (displacement**2).sum(axis=1)
    shares = shares / shares.sum()
    movers: list[tuple[str, int, float]] = []
    for index in np.argsort(-shares)[:most]:
        movers.append((symbols[index], int(index) + 1, float(shares[index])))
        if sum(share for _, _, share in movers) >= 0.8:
            break
    return movers


def wavenumbers(values: np.ndarray) -> np.ndarray:
    """Wavenumbers (cm^-1) of curvatures over masses, hartree/(bohr^2 dalton); a negative one is imaginary."""
    return np.sign(values) * np.sqrt(np.abs(values)) * _CM1


def _normalised(modes: np.ndarray) -> np.ndarray:
    flat = modes.reshape(len(modes), modes.shape[1] * 3)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)
