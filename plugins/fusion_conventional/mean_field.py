"""Hartree-Fock and Kohn-Sham through PySCF."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from pyscf import dft, gto, scf

from fusion.results import Result
from fusion.system import System


class MeanField:
    """`Method` of PySCF's mean-field calculations: Hartree-Fock where `xc` is None. Restricted for spin 0."""

    kind = "conventional"
    provides = frozenset({"energy", "forces", "dipole", "hessian"})

    def __init__(self, name: str, xc: str | None, basis: str, grid_level: int, title: str = "", **_: Any) -> None:
        self.name, self.title, self.xc, self.basis, self.grid_level = name, title, xc, basis, grid_level

    @property
    def label(self) -> str:
        """What a run is called after."""
        return f"{self.xc or 'HF'}/{self.basis}"

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        """One SCF per system."""
        return [self._calculate(system, frozenset(properties)) for system in systems]

    def _calculate(self, system: System, wanted: frozenset[str]) -> Result:
        atoms = list(zip(system.symbols, system.positions.tolist(), strict=True))
        mol = gto.M(atom=atoms, unit="Bohr", basis=self.basis, charge=system.charge, spin=system.spin, verbose=0)
        mean_field: Any = self._mean_field(mol)
        mean_field.kernel()
        result = Result(system, energy=float(mean_field.e_tot))
        if not mean_field.converged:
            result.status, result.message = "not_converged", "the SCF did not converge"
            return result
        if "dipole" in wanted:
            result.properties["dipole"] = np.asarray(mean_field.dip_moment(unit="AU", verbose=0))
        if "forces" in wanted:
            result.properties["forces"] = -np.asarray(mean_field.nuc_grad_method().kernel())
        if "hessian" in wanted:
            size = 3 * mol.natm
            hessian = np.asarray(mean_field.Hessian().kernel())
            result.properties["hessian"] = hessian.transpose(0, 2, 1, 3).reshape(size, size)
        return result

    def _mean_field(self, mol: Any) -> Any:
        if self.xc is None:
            return (scf.UHF if mol.spin else scf.RHF)(mol)
        mean_field = (dft.UKS if mol.spin else dft.RKS)(mol, xc=self.xc)
        mean_field.grids.level = self.grid_level
        return mean_field
