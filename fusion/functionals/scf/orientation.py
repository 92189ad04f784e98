"""Rotations of an open shell that move no nucleus: they cost no energy, except for errors of the grid.

The energy of an atom or a linear molecule does not depend on the orientation of an open shell. A grid is not a sphere:
its torque of about 1e-4 hartree rotates the shell in every cycle and changes the energy by microhartrees. Removing the
rotation from the Fock matrix lets the SCF converge with its initial orientation.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

LINEAR_BOHR = 1e-6
"""Largest distance from the axis of nuclei that count as on it."""
EMPTY = 1e-3
"""Least change of the occupied orbitals by a rotation of an open shell; a closed shell changes less."""


class Orientation:
    """Rotations of the electrons of `mol` about axes through all nuclei: three for an atom, one for a linear molecule,
    otherwise none."""

    def __init__(self, mol: Any) -> None:
        self._mol = mol
        self._axes = _axes(mol.atom_coords())

    @cached_property
    def _roots(self) -> tuple[np.ndarray, np.ndarray]:
        """Square root of the overlap matrix, and its inverse."""
        values, vectors = np.linalg.eigh(self._mol.intor_symmetric("int1e_ovlp"))
        return (vectors * np.sqrt(values)) @ vectors.T, (vectors / np.sqrt(values)) @ vectors.T

    @cached_property
    def _generators(self) -> np.ndarray:
        """Antisymmetric matrices (K, n, n) of rotations about the axes, in symmetrically orthonormalised functions."""
        with self._mol.with_common_orig(self._mol.atom_coord(0)):
            about_xyz = self._mol.intor("int1e_cg_irxp", comp=3)
        _, inverse = self._roots
        return np.asarray(np.einsum("kx,xij->kij", self._axes, inverse @ about_xyz @ inverse))

    def held(self, fock: np.ndarray, density: np.ndarray) -> tuple[np.ndarray, float]:
        """Fock matrices ((n, n) or (2, n, n)) without the part that rotates the determinants of `density`, and the norm
        (hartree) of that part of the orbital gradient.

        With P the projector on the occupied orbitals, the gradient is (1 - P) F P and a rotation (1 - P) l P. The
        component of the gradient along the span of the rotations, over both spins together, is removed.
        """
        if not len(self._axes):
            return fock, 0.0
        generators, (root, inverse) = self._generators, self._roots
        restricted = fock.ndim == 2
        matrices = inverse @ (fock[None] if restricted else fock) @ inverse
        occupied = root @ (0.5 * density[None] if restricted else density) @ root
        empty = np.eye(fock.shape[-1]) - occupied
        gradient = empty @ matrices @ occupied
        turns = (empty @ generators[:, None] @ occupied).reshape(len(generators), -1)
        _, sizes, basis = np.linalg.svd(turns, full_matrices=False)
        basis = basis[sizes > EMPTY]
        along = basis @ gradient.ravel()
        change = (along @ basis).reshape(gradient.shape)
        matrices = matrices - change - change.transpose(0, 2, 1)
        held = root @ matrices @ root
        return (held[0] if restricted else held), float(np.linalg.norm(along))


def _axes(positions: np.ndarray) -> np.ndarray:
    """Unit vectors (K, 3) of the axes through the first nucleus about which a rotation moves no nucleus."""
    if len(positions) == 1:
        return np.eye(3)
    relative = positions[1:] - positions[0]
    axis = relative[0] / np.linalg.norm(relative[0])
    away = np.linalg.norm(np.cross(relative, axis), axis=1)
    return axis[None] if away.max() < LINEAR_BOHR else np.zeros((0, 3))
