"""A method from any functional: self-consistent Kohn-Sham energies, forces and dipoles. Atomic units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from fusion.errors import InputError
from fusion.functionals.features import check_needs
from fusion.functionals.kohn_sham import converge, kohn_sham, molecule
from fusion.results import Result
from fusion.system import System


class FunctionalMethod:
    """`Method` of kind functional around one `Functional`, given as an `nn.Module` or a config with `_target_`.

    `basis` and `grid_level` (0-9) are PySCF's, `conv_tol` is the change of the energy (hartree) at convergence and
    `max_cycle` the number of SCF cycles per attempt. Spin 0 is restricted, all else unrestricted.
    """

    kind = "functional"
    weights: dict[str, Any] | None = None

    def __init__(
        self,
        name: str,
        model: nn.Module | Mapping[str, Any],
        basis: str = "def2-tzvp",
        grid_level: int = 3,
        conv_tol: float = 1e-9,
        max_cycle: int = 50,
        summary: str = "",
        cost: str = "",
        requires: Sequence[str] = (),
    ) -> None:
        if grid_level not in range(10):
            raise InputError(f"method.grid_level must be 0 ... 9, not {grid_level}")
        if not conv_tol > 0:
            raise InputError(f"method.conv_tol must be positive (hartree), not {conv_tol}")
        self.name, self.summary, self.cost, self.requires = name, summary, cost, tuple(requires)
        self.basis, self.grid_level, self.conv_tol, self.max_cycle = basis, grid_level, conv_tol, max_cycle
        self._model = model

    @cached_property
    def functional(self) -> Any:
        """The functional in float64, its parameters constant."""
        model = self._model
        if not isinstance(model, nn.Module):
            from hydra.utils import instantiate

            model = instantiate(model)
        return model.to(torch.float64).eval().requires_grad_(False)

    @property
    def provides(self) -> frozenset[str]:
        """What a converged density gives."""
        return frozenset({"energy", "dipole"})

    def check(self, systems: Sequence[System], properties: Iterable[str] = ()) -> None:
        """Raise InputError for a basis or system, ValueError for features, that cannot be had."""
        check_needs(self.functional.needs, self.name)
        for system in systems:
            molecule(system, self.basis)

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        """One SCF per system; forces (A, 3) in hartree/bohr, dipole (3,) in e bohr."""
        wanted = frozenset(properties)
        self.check(systems, wanted)
        return [self._calculate(system, wanted) for system in systems]

    def _calculate(self, system: System, wanted: frozenset[str]) -> Result:
        mol = molecule(system, self.basis)
        mean_field = kohn_sham(mol, self.functional, self.grid_level, self.conv_tol, self.name)
        attempts = converge(mean_field, self.max_cycle)
        result = Result(system, energy=float(mean_field.e_tot))
        result.details["kohn_sham"] = {
            "basis": self.basis,
            "grid_level": self.grid_level,
            "conv_tol_hartree": self.conv_tol,
            "reference": "RKS" if system.spin == 0 else "UKS",
            "xc_hartree": float(mean_field.scf_summary["exc"]),
            "attempts": attempts,
        }
        if not mean_field.converged:
            result.status = "not_converged"
            tried = ", ".join(attempts)
            result.message = (
                f"not converged after {tried} ({self.max_cycle} cycles each); try a larger method.max_cycle"
            )
            return result
        if "dipole" in wanted:
            result.properties["dipole"] = np.asarray(mean_field.dip_moment(unit="AU", verbose=0))
        if "forces" in wanted & self.provides:
            result.properties["forces"] = -np.asarray(mean_field.nuc_grad_method().kernel())
        return result
