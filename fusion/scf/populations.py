"""Charges and spins of atoms from the density of a determinant."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import numpy as np
from pyscf import lo

POPULATIONS: Final = frozenset({"charges", "spin_populations"})
"""Names of the properties."""


def populations(mean_field: Any, wanted: Collection[str] = POPULATIONS) -> dict[str, np.ndarray]:
    """Return those `wanted` of `charges` (A,), e, and `spin_populations` (A,), electrons up minus down.

    Ghost atoms are left out; their electrons are missing in the sums. The populations are those of meta-Löwdin
    orbitals (Sun and Chan, J. Chem. Theory Comput. 10, 3784 (2014)), which depend much less on the basis than
    Mulliken's: with a density matrix D_s of spin s, the overlap S and the orbitals C, atom A has the sum of
    (C^T S D_s S C)_ii over its orbitals i. With Cartesian d functions they change by up to about 1e-3 when the molecule
    is turned.
    """
    if POPULATIONS.isdisjoint(wanted):
        return {}
    mol = mean_field.mol
    overlap = mean_field.get_ovlp()
    orbitals = overlap @ lo.orth_ao(mol, "meta_lowdin", s=overlap)
    densities = np.asarray(mean_field.make_rdm1())
    if densities.ndim == 2:
        densities = np.stack([0.5 * densities] * 2)
    numbers = np.einsum("mi,smn,ni->si", orbitals, densities, orbitals, optimize=True)
    atoms = [slice(first, last) for first, last in mol.aoslice_by_atom()[:, 2:]]
    up, down = (np.array([spin[atom].sum() for atom in atoms]) for spin in numbers)
    nuclei = np.flatnonzero(mol.atom_charges())
    found = {"charges": mol.atom_charges() - up - down, "spin_populations": up - down}
    return {name: values[nuclei] for name, values in found.items() if name in wanted}
