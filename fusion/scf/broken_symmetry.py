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
"""<S^2> below which a loosely converged unrestricted singlet is a closed shell; up to 1e-3 was seen."""


def is_closed(densities: np.ndarray) -> bool:
    """Return True if the density matrices (2, n, n) of both spins are equal."""
    return float(np.abs(densities[0] - densities[1]).max()) < EQUAL


def parted(orbitals: np.ndarray, occupations: np.ndarray) -> np.ndarray:
    """Return orbitals (2, n, m) with mixed frontier orbitals if the densities of both spins are equal.

    The orbitals are in the order of their energies and have occupations (2, m). They are returned unchanged if no
    orbital is empty, or if one is partly filled.
    """
    densities = np.stack([(c * n) @ c.T for c, n in zip(orbitals, occupations, strict=True)])
    return mixed(orbitals, occupations) if is_closed(densities) else orbitals


def mixed(orbitals: np.ndarray, occupations: np.ndarray) -> np.ndarray:
    """Return orbitals (2, n, m) with the frontier orbitals of the first spin mixed, with opposite signs for both spins.

    They are returned unchanged if no orbital is empty, or if one is partly filled.
    """
    filled, empty = np.flatnonzero(occupations[0] > 0), np.flatnonzero(occupations[0] == 0)
    integer = np.isin(occupations, (0.0, 1.0)).all()
    if not integer or not len(filled) or not len(empty):
        return orbitals
    result = np.stack([orbitals[0]] * 2)
    homo, lumo = orbitals[0][:, filled[-1]], orbitals[0][:, empty[0]]
    for spin, sign in enumerate((1.0, -1.0)):
        result[spin, :, filled[-1]] = np.sqrt(0.5) * (homo + sign * lumo)
        result[spin, :, empty[0]] = np.sqrt(0.5) * (lumo - sign * homo)
    return result


def separated(mean_field: Any) -> np.ndarray:
    """Return density matrices (2, n, n) with separate spins from a converged conventional unrestricted singlet.

    A closed shell is solved again from mixed frontier orbitals. If that solution is closed too, as in a functional that
    separates spins at larger distances only, the density is that of the mixed orbitals.
    """
    if mean_field.spin_square()[0] > CLOSED:
        return np.asarray(mean_field.make_rdm1())
    start = np.asarray(mean_field.make_rdm1(mixed(mean_field.mo_coeff, mean_field.mo_occ), mean_field.mo_occ))
    mean_field.kernel(dm0=start)
    is_separate = mean_field.converged and mean_field.spin_square()[0] > CLOSED
    return np.asarray(mean_field.make_rdm1()) if is_separate else start
