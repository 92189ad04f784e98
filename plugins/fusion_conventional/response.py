"""Response of a converged determinant to displacements of nuclei and to a field: coupled-perturbed equations.

J. A. Pople, R. Krishnan, H. B. Schlegel, J. S. Binkley, Int. J. Quantum Chem. Symp. 13, 225 (1979); solved by PySCF.
Atomic units; arrays over spin if the determinant is unrestricted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pyscf.scf import cphf, ucphf


def second_derivatives(mean_field: Any, hessian: bool, dipole: bool) -> dict[str, np.ndarray]:
    """Hessian (3A, 3A), hartree/bohr^2, and derivatives of the dipole (3A, 3), e, from one response to the nuclei.

    Ghost atoms are left out. The Hessian includes the motion of the grid as far as PySCF's does.
    """
    solver = mean_field.Hessian()
    orbitals, energies, numbers = mean_field.mo_coeff, mean_field.mo_energy, mean_field.mo_occ
    perturbation = solver.make_h1(orbitals, numbers)
    moved, moved_energies = solver.solve_mo1(energies, orbitals, numbers, perturbation)
    nuclei = np.flatnonzero(mean_field.mol.atom_charges())
    derivatives: dict[str, np.ndarray] = {}
    if hessian:
        blocks = solver.hess_elec(energies, orbitals, numbers, moved, moved_energies, perturbation) + solver.hess_nuc()
        blocks = np.asarray(blocks)[np.ix_(nuclei, nuclei)]
        derivatives["hessian"] = blocks.transpose(0, 2, 1, 3).reshape(3 * len(nuclei), -1)
    if dipole:
        derivatives["dipole_derivatives"] = _dipole_derivatives(mean_field, moved)[nuclei].reshape(-1, 3)
    return derivatives


def polarizability(mean_field: Any) -> np.ndarray:
    """Static dipole polarizability (3, 3) in bohr^3: minus the second derivative of the energy by the field."""
    mol = mean_field.mol
    position = mol.intor_symmetric("int1e_r", comp=3)
    spins = _spins(mean_field.mo_coeff, mean_field.mo_energy, mean_field.mo_occ)
    blocks = [_virtual_occupied(position, orbitals, numbers) for orbitals, _, numbers in spins]
    induced = mean_field.gen_response(hermi=1)
    if len(spins) == 1:
        orbitals, energies, numbers = spins[0]

        def potential(vectors: np.ndarray) -> np.ndarray:
            first_order = 2.0 * _density(vectors.reshape(-1, *blocks[0].shape[1:]), orbitals, numbers)
            return _virtual_occupied(induced(first_order), orbitals, numbers).reshape(vectors.shape)

        response, _ = cphf.solve(potential, energies, numbers, blocks[0], tol=1e-9)
        return np.asarray(-4.0 * np.einsum("xai,yai->xy", blocks[0], response))
    sizes = [block[0].size for block in blocks]

    def potentials(vectors: np.ndarray) -> np.ndarray:
        parts = np.split(vectors.reshape(-1, sum(sizes)), [sizes[0]], axis=1)
        pairs = zip(parts, blocks, spins, strict=True)
        density = np.stack([_density(v.reshape(-1, *b.shape[1:]), c, n) for v, b, (c, _, n) in pairs])
        pairs_of_spin = zip(induced(density), spins, strict=True)
        fields = [_virtual_occupied(matrices, c, n).reshape(len(parts[0]), -1) for matrices, (c, _, n) in pairs_of_spin]
        return np.hstack(fields).reshape(vectors.shape)

    responses, _ = ucphf.solve(potentials, mean_field.mo_energy, mean_field.mo_occ, tuple(blocks), tol=1e-9)
    pairs = zip(blocks, responses, strict=True)
    return np.asarray(-2.0 * sum(np.einsum("xai,yai->xy", block, np.reshape(u, block.shape)) for block, u in pairs))


def _dipole_derivatives(mean_field: Any, moved: Any) -> np.ndarray:
    """Dipole derivatives (A, 3, 3) by atom, direction of its displacement and component of the dipole."""
    mol = mean_field.mol
    position = mol.intor_symmetric("int1e_r", comp=3)
    by_nabla = mol.intor("int1e_irp", comp=9).reshape(3, 3, mol.nao, mol.nao)  # <i| r_b nabla_x |j>
    restricted = np.ndim(mean_field.mo_occ) == 1
    orbitals = [mean_field.mo_coeff] if restricted else list(mean_field.mo_coeff)
    numbers = [mean_field.mo_occ] if restricted else list(mean_field.mo_occ)
    moved = [moved] if restricted else list(moved)
    density = np.asarray(mean_field.make_rdm1())
    density = density if restricted else density[0] + density[1]
    derivatives = np.zeros((mol.natm, 3, 3))
    slices = mol.aoslice_by_atom()[:, 2:]
    for atom, (charge, (first, last)) in enumerate(zip(mol.atom_charges(), slices, strict=True)):
        derivatives[atom] = charge * np.eye(3)
        # The sign: a function moves with its nucleus. The factor 2: both factors of the density.
        functions = slice(first, last)
        derivatives[atom] += 2.0 * np.einsum("bxij,ij->xb", by_nabla[..., functions], density[:, functions])
        for filled, number, first_order in zip(orbitals, numbers, moved, strict=True):
            occupied = filled[:, number > 0]
            weight = 2.0 * number[number > 0]
            derivatives[atom] -= np.einsum(
                "xpi,qi,bpq,i->xb", first_order[atom], occupied, position, weight, optimize=True
            )
    return derivatives


def _spins(*arrays: Any) -> list[tuple[np.ndarray, ...]]:
    if np.ndim(arrays[-1]) == 1:
        return [tuple(np.asarray(array) for array in arrays)]
    return [tuple(np.asarray(array) for array in of_spin) for of_spin in zip(*arrays, strict=True)]


def _virtual_occupied(matrices: np.ndarray, orbitals: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Transform matrices (n, N, N) over basis functions to (n, virtual, occupied) over orbitals."""
    return np.asarray(orbitals[:, numbers == 0].T @ np.asarray(matrices) @ orbitals[:, numbers > 0])


def _density(vectors: np.ndarray, orbitals: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """First-order density matrices (n, N, N) of one electron per orbital, from coefficients (n, virtual, occupied)."""
    half = orbitals[:, numbers == 0] @ vectors @ orbitals[:, numbers > 0].T
    return np.asarray(half + half.transpose(0, 2, 1))
