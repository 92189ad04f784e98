"""Change of a learned potential with the density, for second-order SCF and stability analysis.

With E = D chi and F = nu E (see `local_exchange`), a symmetric change dD of the density matrix changes the features by

    d rho = chi . dE,   d grad = 2 grad chi . dE,   d tau = 1/2 grad chi . dD grad chi,   d e_x = -F . dE

(nu is symmetric). The derivatives v of the functional change by its Hessian times d feature (two passes of
differentiation, no Hessian is formed), and those of a functional of the whole grid by their difference between
features + h d feature and features - h d feature over 2 h. The potential matrix changes by the contraction of dv, and
by -1/2 sum_g w v (chi dF^T + dF chi^T) from the curvature of the exchange density. An antisymmetric dD changes only
the last term.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusion.errors import CalculationError
from fusion.functionals.features import DensityFeatures, joined, of_spins
from fusion.functionals.grid.differentiation import differentiate
from fusion.functionals.grid.numint import LearnedNumInt
from fusion.functionals.grid.potential_matrix import contract
from fusion.functionals.grid.working_grid import Block
from fusion.functionals.protocol import is_pointwise

VACUUM = 1e-12
"""Total density (bohr^-3) below which a point does not respond: second derivatives of functionals diverge there."""
STEP = 1e-4
"""Largest change of an element of the density matrix in differences of the derivatives of a functional."""


class Response:
    """Linear response of the potential at the density matrices (S, n, n); S = 1 stands for two equal spins."""

    def __init__(self, numint: LearnedNumInt, mol: Any, grids: Any, dms: np.ndarray) -> None:
        if grids.coords is None:
            grids.build(with_non0tab=True)
        self.numint, self.dms = numint, np.asarray(dms)
        self.grid = numint.working_grid(mol, grids, self.dms)
        self.features = [numint.density(mol, block, self.dms).features for block in self.grid.blocks()]
        pointwise = is_pointwise(numint.functional)
        self.whole_grid = None if pointwise else _WholeGrid(numint, joined(self.features))

    def potential(self, change: np.ndarray, hermi: int = 1) -> np.ndarray:
        """Change of the potential matrices (S, n, n) with the density matrices (S, n, n).

        `hermi` as in PySCF: 1 for a symmetric change, 2 for an antisymmetric one, 0 for any.
        """
        transposed = change.transpose(0, 2, 1)
        potential = np.zeros_like(change)
        if hermi != 2:
            potential += self._symmetric(0.5 * (change + transposed))
        if hermi != 1 and self.numint.omegas:
            potential += self._antisymmetric(0.5 * (change - transposed))
        return potential

    def _symmetric(self, change: np.ndarray) -> np.ndarray:
        matrix = np.zeros_like(change)
        for block, exchange, first, second in self._changed(change):
            matrix += contract(block, second, exchange[:, : len(change)])
            matrix += _curvature(block, first, exchange[:, len(change) :])
        return matrix + matrix.transpose(0, 2, 1)

    def _antisymmetric(self, change: np.ndarray) -> np.ndarray:
        matrix = np.zeros_like(change)
        start = 0
        for block, features in zip(self.grid.blocks(), self.features, strict=True):
            if self.whole_grid is None:
                first, _ = self._derivatives(features, None)
                first = first.times(torch.from_numpy(block.weights))
            else:
                first = self.whole_grid.derivatives.at(slice(start, start + len(block.weights)))
            start += len(block.weights)
            matrix += _curvature(block, first, self._exchange(block, change @ block.orbitals[0]))
        return matrix - matrix.transpose(0, 2, 1)

    def _changed(self, change: np.ndarray) -> Iterator[tuple[Block, np.ndarray, DensityFeatures, DensityFeatures]]:
        """Yield blocks with F of the reference and of the change, and w times the derivatives and their change."""
        if self.whole_grid is None:
            for features, (block, exchange, difference) in zip(self.features, self._differences(change), strict=True):
                first, second = self._derivatives(features, difference)
                weights = torch.from_numpy(block.weights)
                yield block, exchange, first.times(weights), second.times(weights)
            return
        differences = joined([difference for *_, difference in self._differences(change)])
        second, start = self.whole_grid.along(differences, STEP / (float(np.abs(change).max()) or 1.0)), 0
        for block, exchange, _ in self._differences(change):
            points = slice(start, start + len(block.weights))
            start = points.stop
            yield block, exchange, self.whole_grid.derivatives.at(points), second.at(points)

    def _differences(self, change: np.ndarray) -> Iterator[tuple[Block, np.ndarray, DensityFeatures]]:
        """Yield blocks with F (W, 2 S, n, G) of the reference and of the change, and the change of the features."""
        for block in self.grid.blocks():
            chi = block.orbitals[0]
            smeared = change @ chi
            exchange = self._exchange(block, np.concatenate([self.dms @ chi, smeared]))
            yield block, exchange, self._change_of_features(block, change, smeared, exchange[:, : len(change)])

    def _exchange(self, block: Block, smeared: np.ndarray) -> np.ndarray:
        """Compute F (W, S, n, G) of E (S, n, G)."""
        if self.grid.exchange is None:
            return np.zeros((0, *smeared.shape))
        stored = block.exchange(smeared)
        return self.grid.exchange.contract(block.coords, smeared) if stored is None else stored

    def _change_of_features(
        self, block: Block, change: np.ndarray, smeared: np.ndarray, exchange: np.ndarray
    ) -> DensityFeatures:
        """Compute d feature, linear in the change, from dE (S, n, G) and F (W, S, n, G) at the reference."""
        chi, needs = block.orbitals, self.numint.functional.needs
        grad = 2.0 * np.einsum("xng,sng->sxg", chi[1:], smeared) if "grad" in needs else None
        tau = None
        if "tau" in needs:
            terms = [np.einsum("ng,sng->sg", chi[axis], change @ chi[axis]) for axis in (1, 2, 3)]
            tau = np.asarray(0.5 * np.sum(terms, axis=0))
        local = -np.einsum("sng,wsng->wsg", smeared, exchange)
        hfx = dict(zip(self.numint.omegas, local, strict=True))
        rho, variable = np.einsum("ng,sng->sg", chi[0], smeared), needs - {"coords", "weights", "nuclei"}
        return of_spins(variable, block.coords, block.weights, block.nuclei, rho, grad, tau, hfx)

    def _derivatives(
        self, features: DensityFeatures, change: DensityFeatures | None
    ) -> tuple[DensityFeatures, DensityFeatures]:
        """Compute de/d(feature) and its change with the features; without a change, the former twice."""
        functional: Any = self.numint.functional
        variables = [tensor.detach().clone().requires_grad_(True) for tensor in features.variables()]
        with torch.enable_grad():
            energy = functional.energy_density(features.with_variables(variables)).sum()
            first = _gradients([energy], variables, create_graph=change is not None)
        dense = features.rho.sum(dim=0) > VACUUM
        derivatives = self._checked(features, first, dense)
        if change is None:
            return derivatives, derivatives
        pairs = [(g, d) for g, d in zip(first, change.variables(), strict=True) if g.requires_grad]
        # no second derivative: linear in the density
        second: Sequence[Tensor] = [torch.zeros_like(variable) for variable in variables]
        if pairs:
            second = _gradients([g for g, _ in pairs], variables, along=[d for _, d in pairs])
        return derivatives, self._checked(features, second, dense)

    def _checked(self, features: DensityFeatures, tensors: Sequence[Tensor], dense: Tensor) -> DensityFeatures:
        values = [torch.where(dense, tensor.detach(), torch.zeros_like(tensor)) for tensor in tensors]
        if not all(torch.isfinite(tensor).all() for tensor in values):
            raise CalculationError(f"a second derivative of {self.numint.name} is not a finite number")
        return features.with_variables(values).without_places()


class _WholeGrid:
    """Derivatives of a functional of the whole grid at given features, weights included, and their changes."""

    def __init__(self, numint: LearnedNumInt, features: DensityFeatures) -> None:
        functional: Any = copy.deepcopy(numint.functional)
        self.functional, self.name = functional.to(torch.float64), numint.name
        self.features = features
        self.dense = features.rho.sum(dim=0) > VACUUM
        self.derivatives = self._at(features)

    def along(self, change: DensityFeatures, step: float) -> DensityFeatures:
        """Compute the change of the derivatives with the features, by differences of `step` times the change."""
        ahead, behind = (self._at(self._moved(change, sign * step)).variables() for sign in (1.0, -1.0))
        slopes = [(plus - minus) / (2.0 * step) for plus, minus in zip(ahead, behind, strict=True)]
        return self.features.with_variables(slopes).without_places()

    def _moved(self, change: DensityFeatures, step: float) -> DensityFeatures:
        pairs = zip(self.features.variables(), change.variables(), strict=True)
        return self.features.with_variables([tensor + step * difference for tensor, difference in pairs])

    def _at(self, features: DensityFeatures) -> DensityFeatures:
        _, derivatives = differentiate(self.functional, features, self.name)
        return derivatives.times(self.dense.to(torch.float64))


def _gradients(
    values: Sequence[Tensor],
    variables: Sequence[Tensor],
    along: Sequence[Tensor] | None = None,
    create_graph: bool = False,
) -> Sequence[Tensor]:
    return torch.autograd.grad(
        values, variables, along, create_graph=create_graph, allow_unused=True, materialize_grads=True
    )


def _curvature(block: Block, potential: DensityFeatures, changed: np.ndarray) -> np.ndarray:
    """Compute -1/2 sum_g v dF chi^T (S, n, n) from v = w de/d(e_x) and dF (W, S, n, G)."""
    matrices = np.zeros((changed.shape[1], *(2 * block.orbitals.shape[1:2])))
    for omega, vectors in zip(sorted(potential.hfx), changed, strict=True):
        values = potential.hfx[omega].numpy()
        values = values if len(vectors) == 2 else values.mean(axis=0, keepdims=True)
        matrices -= 0.5 * (values[:, None] * vectors) @ block.orbitals[0].T
    return matrices


def has_response(mean_field: Any) -> bool:
    """True if the occupations are integers, and not set from outside."""
    return not (mean_field.fractional or mean_field.decorated)
