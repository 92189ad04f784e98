"""PySCF's numerical integrator with a learned functional in it.

A pointwise functional replaces the evaluation of libxc block by block, so that everything PySCF builds on it (SCF,
gradients) works unchanged. A functional of the whole grid is evaluated once per density, and its derivative with
respect to every density variable is then replayed through PySCF's own contraction with the orbitals.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pyscf.dft.numint import NumInt
from torch import Tensor

from fusion.errors import CalculationError
from fusion.functionals.features import density_level, density_tensor, features_of
from fusion.functionals.protocol import Functional, is_pointwise

VACUUM = 1e-14
"""Total density (bohr^-3) below which a point counts as empty for a pointwise functional, as in libxc."""


class LearnedNumInt(NumInt):
    """`NumInt` whose exchange-correlation energy is `functional`'s; the `xc_code` PySCF passes around is not read."""

    def __init__(self, functional: Functional, name: str = "the functional") -> None:
        super().__init__()
        self.functional, self.name = functional, name
        self.xctype = density_level(functional.needs, name)

    def _xc_type(self, xc_code: str) -> str:
        return self.xctype

    def hybrid_coeff(self, xc_code: str, spin: int = 0) -> float:
        return 0.0

    def rsh_coeff(self, xc_code: str) -> tuple[float, float, float]:
        return 0.0, 0.0, 0.0

    def nlc_coeff(self, xc_code: str) -> tuple[()]:
        return ()

    def eval_xc_eff(
        self,
        xc_code: str,
        rho: Any,
        deriv: int = 1,
        omega: float | None = None,
        xctype: str | None = None,
        verbose: Any = None,
        spin: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray, None, None]:
        """Energy per electron (G,) and its derivatives with respect to the density variables, shaped as `rho`."""
        if deriv > 1:
            raise NotImplementedError(f"second derivatives of {self.name} are not available yet")
        unrestricted = isinstance(rho, tuple | list) or np.ndim(rho) == 3 or spin == 1
        stacked = _stacked(rho, unrestricted)
        density = stacked[:, 0].sum(axis=0)
        occupied = density > VACUUM
        energy, potential = np.zeros_like(density), np.zeros_like(stacked)
        variables = density_tensor(stacked[:, :, occupied])
        with torch.enable_grad():
            values = self.functional.energy_density(features_of(variables, self.functional.needs))
            energy[occupied], potential[:, :, occupied] = _differentiate(values, variables, self.name)
        energy[occupied] /= density[occupied]
        return energy, potential if unrestricted else potential[0], None, None

    def nr_rks(self, mol: Any, grids: Any, xc_code: str, dms: Any, *args: Any, **kwargs: Any) -> Any:
        """Electrons, energy and potential matrix of a closed shell, as PySCF's own."""
        if is_pointwise(self.functional):
            return super().nr_rks(mol, grids, xc_code, dms, *args, **kwargs)
        energy, replay = self._whole_grid(mol, grids, np.asarray(dms)[None])
        electrons, _, matrix = replay.nr_rks(mol, grids, xc_code, dms, *args, **kwargs)
        return electrons, energy, matrix

    def nr_uks(self, mol: Any, grids: Any, xc_code: str, dms: Any, *args: Any, **kwargs: Any) -> Any:
        """Electrons per spin, energy and potential matrices of both spins, as PySCF's own."""
        if is_pointwise(self.functional):
            return super().nr_uks(mol, grids, xc_code, dms, *args, **kwargs)
        energy, replay = self._whole_grid(mol, grids, np.asarray(dms))
        electrons, _, matrix = replay.nr_uks(mol, grids, xc_code, dms, *args, **kwargs)
        return electrons, energy, matrix

    def _whole_grid(self, mol: Any, grids: Any, dms: np.ndarray) -> tuple[float, _Replay]:
        """Energy of the density matrices (S, n, n), and an integrator that hands out its derivatives block by block."""
        if dms.ndim != 3:
            raise NotImplementedError(f"{self.name} takes one density at a time")
        evaluators = [self._gen_rho_evaluator(mol, dm, 1, False, grids)[0] for dm in dms]
        blocks, coords, weights = [], [], []
        for ao, mask, weight, points in self.block_loop(mol, grids, mol.nao, 0 if self.xctype == "LDA" else 1):
            blocks.append(np.stack([np.atleast_2d(rho(0, ao, mask, self.xctype)) for rho in evaluators]))
            coords.append(points.copy())
            weights.append(weight.copy())
        variables = density_tensor(np.concatenate(blocks, axis=-1))
        weight = np.concatenate(weights)
        features = features_of(variables, self.functional.needs, np.concatenate(coords), weight)
        with torch.enable_grad():
            if hasattr(self.functional, "energy"):
                total = self.functional.energy(features)
            else:
                total = torch.from_numpy(weight) @ self.functional.energy_density(features)
            energy, derivative = _differentiate(total, variables, self.name)
        # PySCF multiplies by the weights again; points without weight carry no energy.
        potential = np.divide(derivative, weight, out=np.zeros_like(derivative), where=weight != 0)
        return float(energy), _Replay(self.xctype, potential)


class _Replay(NumInt):
    """For one pass over the grid: hands out a ready potential (S, V, G) in the order of PySCF's blocks."""

    def __init__(self, xctype: str, potential: np.ndarray) -> None:
        super().__init__()
        self.xctype, self.potential, self.position = xctype, potential, 0

    def _xc_type(self, xc_code: str) -> str:
        return self.xctype

    def eval_xc_eff(self, xc_code: str, rho: Any, *args: Any, **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
        size = np.shape(rho)[-1]
        part = self.potential[:, :, self.position : self.position + size].copy()
        self.position += size
        if len(part) == 2:
            return np.zeros(size), part
        return np.zeros(size), part[0, 0] if self.xctype == "LDA" else part[0]


def _stacked(rho: Any, unrestricted: bool) -> np.ndarray:
    """PySCF's density variables as (S, V, G)."""
    spins = rho if unrestricted else [rho]
    return np.stack([np.atleast_2d(np.asarray(part)) for part in spins])


def _differentiate(values: Tensor, variables: Tensor, name: str) -> tuple[np.ndarray, np.ndarray]:
    """`values` and the derivative of their sum, as arrays. Raises CalculationError where either is not finite."""
    try:
        (gradient,) = torch.autograd.grad(values.sum(), variables)
    except RuntimeError as error:
        raise CalculationError(f"{name} is not differentiable in the density ({error})") from error
    if not (torch.isfinite(values).all() and torch.isfinite(gradient).all()):
        bad = int((~torch.isfinite(gradient)).any(dim=0).any(dim=0).sum())
        raise CalculationError(
            f"{name} or its derivative is not a finite number at {bad} of {variables.shape[-1]} grid points"
        )
    return values.detach().numpy(), gradient.numpy()
