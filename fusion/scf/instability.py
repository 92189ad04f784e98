"""Instability of restricted solutions: a bounded search for a rotation of the orbitals that lowers the energy.

R. Seeger, J. A. Pople, J. Chem. Phys. 66, 3045 (1977); PySCF's products with the orbital Hessians. A Ritz value is an
upper bound of the lowest eigenvalue: a negative one proves an instability after any number of products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pyscf.scf import stability

from fusion.scf.second_order import FLAT, lowest_curvature, lowest_eigenpair

PRODUCTS: Final = 8
"""Largest number of products with each orbital Hessian; each costs about as much as an SCF cycle."""
LARGE: Final = 300
"""Number of basis functions above which the whole analysis would take minutes, more than the SCF itself."""
FEW_PRODUCTS: Final = 3
"""Largest number of products above `LARGE`, towards unrestricted determinants only. By B3LYP, three find all of ozone,
N2 at 1.5, F2 at 1.8, H2 at 1.8 Angstrom, C2 and twisted ethylene on the side of zero where all eight find them."""
HARTREE_FOCK_LIMIT: Final = 0.1
"""Negative curvature (hartree) towards unrestricted determinants that Hartree-Fock has for ordinary pi bonds: up to
0.08 for ethylene and benzene at equilibrium (Cizek and Paldus, J. Chem. Phys. 47, 3976 (1967)), 0.3 for half-broken
bonds. Functionals have none at equilibrium."""
NEW_BOHR: Final = 0.3
"""Change of a distance between nuclei above which a geometry is analysed again."""


def warning(mean_field: Any, name: str) -> str | None:
    """Return a sentence if a converged restricted determinant is a saddle point of the energy.

    None if it is not, or if PySCF has no second derivatives. Above `LARGE` functions, fewer products look for
    unrestricted determinants only.
    """
    numbers = np.asarray(mean_field.mo_occ)
    if numbers.ndim != 1 or not np.isin(numbers, (0.0, 2.0)).all() or not (numbers > 0).any() or (numbers > 0).all():
        return None
    limit = FLAT if hasattr(mean_field, "xc") else HARTREE_FOCK_LIMIT
    large = mean_field.mol.nao > LARGE
    try:
        external = _towards_unrestricted(mean_field, FEW_PRODUCTS if large else PRODUCTS)
        internal = external if large or external < -limit else lowest_curvature(mean_field, PRODUCTS)[0]
    except NotImplementedError:
        return None
    if external < -limit:
        return (
            f"the restricted {name} solution is unstable: an unrestricted one lies below it (curvature {external:.3f} "
            "Ha); method.reference=unrestricted finds it"
        )
    if internal < -FLAT:
        return (
            f"the restricted {name} solution is unstable: another restricted one lies below it (curvature "
            f"{internal:.3f} Ha); method.stability=true finds it, for methods with this setting"
        )
    return None


@dataclass(frozen=True)
class Analysed:
    """Result of the stability analysis of a geometry."""

    symbols: tuple[str, ...]
    distances: np.ndarray
    """(A, A), bohr."""
    settings: tuple[Any, ...]
    text: str | None

    @classmethod
    def of(cls, mol: Any, settings: tuple[Any, ...], text: str | None = None) -> Analysed:
        """Store the geometry of an analysis with its warning."""
        return cls(symbols(mol), distances(mol), settings, text)

    @classmethod
    def unpacked(cls, fields: Mapping[str, Any]) -> Analysed:
        """Return the object that `packed` was made from."""
        return cls(tuple(fields["symbols"]), fields["distances"], tuple(fields["settings"]), fields["text"])

    def packed(self) -> dict[str, Any]:
        """Return the fields by name, for a checkpoint."""
        return dict(vars(self))

    def holds_for(self, mol: Any, settings: tuple[Any, ...]) -> bool:
        """True if `mol` has the same atoms in the same order and nearly the same geometry."""
        there = distances(mol)
        same = settings == self.settings and symbols(mol) == self.symbols
        return same and float(np.abs(there - self.distances).max()) < NEW_BOHR


class Analyses:
    """Last analysis of each kind of calculation; small displacements, as in finite differences, need no new one."""

    def __init__(self) -> None:
        self._last: dict[str, Analysed] = {}

    def warnings(self, mean_field: Any, name: str, settings: tuple[Any, ...]) -> list[str]:
        """Return the warnings about a converged determinant; reuse the last analysis if its geometry is close."""
        last = self._last.get(name)
        if last is None or not last.holds_for(mean_field.mol, settings):
            last = Analysed.of(mean_field.mol, settings, warning(mean_field, name))
            self._last[name] = last
        return [] if last.text is None else [last.text]

    def packed(self) -> dict[str, Any]:
        """Return the analyses, for a checkpoint."""
        return {name: last.packed() for name, last in self._last.items()}

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Restore the analyses that `packed` returned; those of older checkpoints do not tell of which elements."""
        self._last = {name: Analysed.unpacked(fields) for name, fields in memory.items() if "symbols" in fields}


def symbols(mol: Any) -> tuple[str, ...]:
    """Return the elements of the atoms; ghost atoms have names of their own."""
    return tuple(mol.atom_symbol(atom) for atom in range(mol.natm))


def distances(mol: Any) -> np.ndarray:
    """Return the distances (A, A) between nuclei, bohr."""
    positions = mol.atom_coords()
    return np.asarray(np.linalg.norm(positions[:, None] - positions[None], axis=-1))


def _towards_unrestricted(mean_field: Any, products: int) -> float:
    """Return the lowest Ritz value (hartree) of the orbital Hessian for rotations that differ between both spins."""
    _, _, product, diagonal = stability._gen_hop_rhf_external(mean_field, with_symmetry=False)
    return float(lowest_eigenpair(product, diagonal, products)[0])
