"""Starting densities of unrestricted singlets: an SCF never separates equal densities of both spins by itself.

The highest occupied and the lowest empty orbital are mixed by 45 degrees, with opposite signs for both spins
(Yamaguchi, Chem. Phys. Lett. 33, 330 (1975)).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

EQUAL: Final = 1e-3
"""Largest difference between the density matrices of both spins that counts as zero."""
CLOSED: Final = 1e-2
"""<S^2> below which an unrestricted singlet counts as a closed shell; loose convergence leaves up to 1e-3."""


def are_equal(densities: np.ndarray) -> bool:
    """Return True if the density matrices (2, n, n) of both spins are equal."""
    return float(np.abs(densities[0] - densities[1]).max()) < EQUAL


def is_closed(densities: np.ndarray, overlap: np.ndarray) -> bool:
    """Return True if the density matrices (2, n, n) of an unrestricted singlet are nearly equal."""
    up, down = (density @ overlap for density in densities)
    return float(np.trace(down) - np.einsum("ij,ji->", up, down)) < CLOSED


def parted(orbitals: np.ndarray, occupations: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    """Return orbitals (2, n, m) with mixed frontier orbitals if the densities of both spins are nearly equal.

    The orbitals are in the order of their energies and have occupations (2, m); `overlap` (n, n) is that of the basis.
    They are returned unchanged if no orbital is empty, or if one is partly filled.
    """
    densities = np.stack([(c * n) @ c.T for c, n in zip(orbitals, occupations, strict=True)])
    filled, empty = np.flatnonzero(occupations[0] > 0), np.flatnonzero(occupations[0] == 0)
    integer = np.isin(occupations, (0.0, 1.0)).all()
    if not integer or not is_closed(densities, overlap) or not len(filled) or not len(empty):
        return orbitals
    mixed = np.stack([orbitals[0]] * 2)
    homo, lumo = orbitals[0][:, filled[-1]], orbitals[0][:, empty[0]]
    for spin, sign in enumerate((1.0, -1.0)):
        mixed[spin, :, filled[-1]] = np.sqrt(0.5) * (homo + sign * lumo)
        mixed[spin, :, empty[0]] = np.sqrt(0.5) * (lumo - sign * homo)
    return mixed


def separated(mean_field: Any) -> np.ndarray:
    """Return density matrices (2, n, n) with separate spins from a converged conventional unrestricted singlet.

    A closed shell is solved again from mixed frontier orbitals. If that solution is closed too, as in a functional that
    separates spins at larger distances only, the density is that of the mixed orbitals.
    """
    overlap, occupations = mean_field.get_ovlp(), mean_field.mo_occ
    orbitals = parted(mean_field.mo_coeff, occupations, overlap)
    mixed = np.asarray(mean_field.make_rdm1(orbitals, occupations))
    if orbitals is mean_field.mo_coeff:
        return mixed
    mean_field.kernel(dm0=mixed)
    solution = np.asarray(mean_field.make_rdm1())
    return solution if mean_field.converged and not is_closed(solution, overlap) else mixed
