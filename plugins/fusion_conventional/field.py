"""Derivatives of the dipole by the positions of nuclei, from finite differences of forces in an electric field.

The two are one mixed second derivative of the energy (A. Komornicki and J. W. McIver, J. Chem. Phys. 70, 2014 (1979)):
six self-consistent calculations with forces for a molecule of any size, while the response to the nuclei takes one for
each of their coordinates. The grid of a functional moves with the nuclei, so that the dipole derivatives of a neutral
molecule add up to zero. Atomic units.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from fusion.errors import CalculationError

FIELD: Final[float] = 0.002
"""Hartree/(e bohr). The third order in the field changes a derivative by about 5e-5 e, noise of the forces by less."""

_CONV_TOL = (1e-10, 1e-6)  # thresholds of energy, hartree, and orbital gradient in a field


def dipole_derivatives(mean_field: Any) -> np.ndarray:
    """Dipole derivatives (3A, 3), e, of a converged determinant without ghost atoms. Raises CalculationError."""
    mol = mean_field.mol
    nuclei = np.flatnonzero(mol.atom_charges())
    columns = []
    for axis in np.eye(3):
        ahead, behind = (_gradient(mean_field, sign * FIELD * axis)[nuclei] for sign in (1.0, -1.0))
        columns.append(-(ahead - behind).ravel() / (2.0 * FIELD))
    # The gradient of the electrons' energy lacks the force of the field on the nuclei.
    return np.stack(columns, axis=1) + np.kron(mol.atom_charges()[nuclei], np.eye(3)).T


def _gradient(mean_field: Any, field: np.ndarray) -> np.ndarray:
    """Gradient (A, 3) of the energy of the electrons in a field, starting from the orbitals without it."""
    mol = mean_field.mol
    moved = mean_field.copy()
    core = mean_field.get_hcore() + np.einsum("x,xij->ij", field, mol.intor_symmetric("int1e_r", comp=3))
    repulsion = mean_field.energy_nuc() - field @ (mol.atom_charges() @ mol.atom_coords())
    moved.get_hcore, moved.energy_nuc = (lambda *_: core), (lambda *_: repulsion)
    moved.conv_tol, moved.conv_tol_grad = min(mean_field.conv_tol, _CONV_TOL[0]), _CONV_TOL[1]
    moved.kernel(dm0=mean_field.make_rdm1())
    if not moved.converged:
        raise CalculationError("the SCF in an electric field, for the derivatives of the dipole, did not converge")
    solver = moved.nuc_grad_method()
    solver.grid_response = True
    by_nabla = mol.intor("int1e_irp", comp=9).reshape(3, 3, mol.nao, mol.nao)  # <i| r_b nabla_x |j>
    slope = solver.get_hcore(mol) - np.einsum("b,bxij->xji", field, by_nabla)
    solver.get_hcore = lambda *_: slope
    return np.asarray(solver.kernel())
