"""Starting densities of an SCF: the density of a conventional functional, or the last one of the same molecule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from pyscf import dft, scf
from pyscf.dft import libxc
from pyscf.scf.dispersion import parse_dft

from fusion.errors import InputError
from fusion.parallel.blas_threads import one_thread
from fusion.scf import broken_symmetry, solvent

COARSE_LEVEL = 1
"""Grid level of the conventional calculation: only its density is used."""
CONV_TOL = 1e-5
FARTHEST_BOHR = 1.0
"""Largest displacement of an atom for which the last density is still used."""

GUESSES = frozenset({"minao", "atom", "1e", "hcore", "huckel", "mod_huckel", "vsap", "sap"})
"""PySCF's own initial guesses, except that from a checkpoint file, whose name `start` states itself."""


@lru_cache(64)
def is_functional(name: str) -> bool:
    """True if `name` is a functional of PySCF (or "hf") and not one of its initial guesses."""
    if name.lower() in GUESSES:
        return False
    if name.lower() == "hf":
        return True
    try:
        if parse_dft(name)[2] is not None:  # a dispersion correction does not change the density
            return False
        (hybrid, _, _), terms = libxc.parse_xc(name)
    except (KeyError, ValueError, NotImplementedError):
        return False
    return not name.isdigit() and bool(terms or hybrid)


def check(name: str | None) -> None:
    """Raise InputError unless `name` is a conventional functional or one of PySCF's guesses."""
    if name is None:
        return
    if not isinstance(name, str) or (name.lower() not in GUESSES and not is_functional(name)):
        raise InputError(
            f"start={name!r} is neither a functional of PySCF nor a file; try b3lyp, pbe, hf, or null for a "
            "guess from atoms"
        )


def density(mean_field: Any, name: str) -> np.ndarray:
    """Density matrices of a conventional calculation in the same basis and with the same occupations.

    The calculation uses a coarse grid and a loose threshold; it need not converge.
    """
    unrestricted = mean_field.istype("UHF")
    if name.lower() == "hf":
        conventional = (scf.UHF if unrestricted else scf.RHF)(mean_field.mol)
    else:
        conventional = (dft.UKS if unrestricted else dft.RKS)(mean_field.mol, xc=name)
        conventional.grids.level = min(COARSE_LEVEL, mean_field.grids.level)
    if getattr(mean_field, "with_df", None) is not None:
        conventional = conventional.density_fit(with_df=mean_field.with_df)
    if mean_field.decorated or mean_field.occupations is not None:
        conventional.get_occ = mean_field.get_occ
        conventional.get_grad = mean_field.get_grad
    conventional.verbose, conventional.chkfile = 0, None
    conventional.conv_tol, conventional.conv_check = CONV_TOL, False
    conventional._eri = mean_field._eri
    if mean_field.start_callback is not None:
        conventional.callback = mean_field.start_callback(name.upper())
    if isinstance(mean_field, solvent.InSolvent):
        conventional = solvent.attached(conventional, mean_field.with_solvent.copy())
    with one_thread():
        conventional.kernel()
        matrices = broken_symmetry.separated(conventional) if mean_field.singlet else conventional.make_rdm1()
    mean_field._eri = conventional._eri
    return np.asarray(matrices)


@dataclass(frozen=True)
class LastDensity:
    """Converged density, from which the next SCF of the same molecule starts."""

    symbols: tuple[str, ...]
    positions: np.ndarray
    """(A, 3), bohr."""
    functions: tuple[int, ...]
    """Index of the first function of each shell."""
    orbitals: tuple[np.ndarray, ...]
    """Occupied orbitals (n, m), of each spin if there are two."""
    numbers: tuple[np.ndarray, ...]
    """Occupations (m,) of these orbitals."""
    settings: tuple[Any, ...]
    """Settings that must agree: basis, charge, spin."""

    @classmethod
    def of(cls, mean_field: Any, settings: tuple[Any, ...]) -> LastDensity:
        """Store the density of a converged mean field; equal spins of an unrestricted singlet are separated."""
        mol, coefficients, numbers = mean_field.mol, np.asarray(mean_field.mo_coeff), np.asarray(mean_field.mo_occ)
        if mean_field.istype("ROHF"):
            coefficients, numbers = np.stack([coefficients] * 2), np.array([numbers > 0, numbers == 2], dtype=float)
        elif mean_field.istype("UHF") and mol.spin == 0:
            coefficients = broken_symmetry.parted(coefficients, numbers)
        spins = [(coefficients, numbers)] if numbers.ndim == 1 else list(zip(coefficients, numbers, strict=True))
        orbitals = tuple(c[:, n > 0] for c, n in spins)
        return cls(
            tuple(mol.atom_symbol(atom) for atom in range(mol.natm)),
            mol.atom_coords(),
            tuple(mol.ao_loc.tolist()),
            orbitals,
            tuple(n[n > 0] for _, n in spins),
            settings,
        )

    @classmethod
    def unpacked(cls, fields: Mapping[str, Any]) -> LastDensity:
        """Return the object that `packed` was made from."""
        tuples = {name: tuple(value) for name, value in fields.items() if name != "positions"}
        return cls(positions=fields["positions"], **tuples)

    def packed(self) -> dict[str, Any]:
        """Return the fields by name, for a checkpoint."""
        return dict(vars(self))

    def suits(self, mol: Any, settings: tuple[Any, ...]) -> bool:
        """True if `mol` has the same atoms in the same order, close to their last positions, and the same settings."""
        if settings != self.settings or tuple(mol.ao_loc.tolist()) != self.functions:
            return False
        if tuple(mol.atom_symbol(atom) for atom in range(mol.natm)) != self.symbols:
            return False
        return bool(np.linalg.norm(mol.atom_coords() - self.positions, axis=1).max() <= FARTHEST_BOHR)

    def on(self, mol: Any) -> np.ndarray:
        """Density matrices in the basis of `mol`, from the orbital coefficients after symmetric orthonormalisation."""
        overlap = mol.intor_symmetric("int1e_ovlp")
        densities = [_density(c, n, overlap) for c, n in zip(self.orbitals, self.numbers, strict=True)]
        return densities[0] if len(densities) == 1 else np.stack(densities)


def _density(filled: np.ndarray, numbers: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(filled.T @ overlap @ filled)
    filled = filled @ (vectors / np.sqrt(values)) @ vectors.T
    return np.asarray((filled * numbers) @ filled.T)
