"""The gradient of a learned functional's energy on a grid with respect to the nuclei, at fixed density matrices.

The formulas are those of `fusion.functionals.scf.gradients`. Work goes in blocks of grid points, so that memory does
not grow with the grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from pyscf import gto
from torch import Tensor

from fusion.functionals.features import DensityFeatures, joined, of_spins
from fusion.functionals.grid.becke_weights import check_differentiable, weight_gradient
from fusion.functionals.grid.differentiation import VACUUM, differentiate
from fusion.functionals.grid.numint import LearnedNumInt
from fusion.functionals.grid.working_grid import Block, plain_blocks
from fusion.functionals.local_exchange.gradients import exchange_gradient
from fusion.functionals.local_exchange.local_exchange import LocalExchange
from fusion.functionals.local_exchange.shell_pairs import shell_pairs
from fusion.functionals.protocol import is_pointwise

SECOND: Final = ((4, 5, 6), (5, 7, 8), (6, 8, 9))
"""Where PySCF has the second derivatives xx, xy, ... of the orbitals, after their value and gradient."""


@dataclass(frozen=True)
class Points:
    """Some grid points and the density matrices (S, n, n) applied to the basis functions there."""

    block: Block
    """With gradients of the basis functions and, where the functional needs them, second derivatives."""
    indices: np.ndarray
    """(G,) of all points of the grid."""
    dms: np.ndarray
    """(S, n, n); S = 1 stands for two equal spins."""
    local: LocalExchange | None

    @property
    def chi(self) -> np.ndarray:
        """(V, a, G): the active basis functions and their derivatives."""
        return self.block.compact

    @property
    def active(self) -> np.ndarray:
        """(a,) of the n basis functions."""
        return self.block.active

    @cached_property
    def smeared(self) -> np.ndarray:
        """E (S, n, G)."""
        return np.asarray(self.dms[:, :, self.active] @ self.chi[0])

    @cached_property
    def smeared_gradient(self) -> np.ndarray:
        """E' (3, S, a, G)."""
        among = self.dms[:, self.active[:, None], self.active]
        return np.stack([among @ self.chi[axis] for axis in (1, 2, 3)])

    @cached_property
    def exchange(self) -> np.ndarray:
        """F (W, S, n, G) of local exchange."""
        if self.local is None:
            return np.zeros((0, *self.smeared.shape))
        return self.local.contract(self.block.coords, self.smeared)

    def features(self, needs: frozenset[str]) -> DensityFeatures:
        """The density as the functional sees it."""
        chi, smeared = self.chi, self.smeared[:, self.active]
        grad = tau = None
        if "grad" in needs:
            grad = 2.0 * np.einsum("xag,sag->sxg", chi[1:4], smeared)
        if "tau" in needs:
            tau = 0.5 * np.einsum("xag,xsag->sg", chi[1:4], self.smeared_gradient)
        omegas = () if self.local is None else self.local.omegas
        local = -0.5 * np.einsum("sng,wsng->wsg", self.smeared, self.exchange)
        rho, hfx = np.einsum("ag,sag->sg", chi[0], smeared), dict(zip(omegas, local, strict=True))
        return of_spins(needs, self.block.coords, self.block.weights, rho, grad, tau, hfx)


def exchange_correlation_gradient(
    numint: LearnedNumInt, mol: gto.Mole, grids: Any, dms: np.ndarray, grid_response: bool = True
) -> np.ndarray:
    """(A, 3) hartree/bohr, of spin density matrices (2, n, n), or (1, n, n) for two equal ones.

    Without `grid_response` the points of the grid and their weights stay where they are.
    """
    functional, name = numint.functional, numint.name
    if grid_response:
        check_differentiable(grids)
    pairs = shell_pairs(mol, derivatives=True) if numint.omegas else None
    gradient, centres = np.zeros((mol.natm, 3)), np.zeros((3, mol.nao))
    moving, by_weight = np.zeros((3, len(grids.weights))), np.zeros(len(grids.weights))
    whole = None if is_pointwise(functional) else _whole_grid(numint, mol, grids, dms)
    done = 0
    for points in _points(numint, mol, grids, dms):
        if whole is None:
            features = points.features(functional.needs)
            values, found = differentiate(functional, features, name)
            by_coords, explicit = _explicit(functional, features, points.block.weights)
            by_weight[points.indices] = values.numpy() + explicit
            derivatives = found.times(torch.from_numpy(points.block.weights))
        else:
            chosen = slice(done, done + len(points.indices))
            derivatives, by_coords = whole[0].at(chosen), whole[1][:, chosen]
            by_weight[points.indices] = whole[2][chosen]
        done += len(points.indices)
        moving[:, points.indices] = by_coords
        potentials = _potentials(derivatives, len(dms))
        of_orbitals = _of_orbitals(points, derivatives, potentials)
        centres[:, points.active] += of_orbitals.sum(axis=-1)
        moving[:, points.indices] -= of_orbitals.sum(axis=1)
        if pairs is not None:
            of_atoms, of_points = exchange_gradient(
                pairs, mol.natm, numint.omegas, points.block.coords, points.smeared, potentials
            )
            gradient += of_atoms
            moving[:, points.indices] -= of_points
    gradient += [centres[:, first:last].sum(axis=1) for *_, first, last in mol.aoslice_by_atom()]
    if grid_response:
        owned = grids.atm_idx >= 0
        np.add.at(gradient, grids.atm_idx[owned], moving.T[owned])
        gradient += weight_gradient(grids, by_weight)
    return gradient


def _points(numint: LearnedNumInt, mol: gto.Mole, grids: Any, dms: np.ndarray) -> Iterator[Points]:
    """The points that the energy is made of."""
    working = numint.working_grid(mol, grids, dms)
    kept = np.flatnonzero(working.kept)
    done = 0
    for block in plain_blocks(mol, grids, 1 if numint.functional.needs.isdisjoint({"grad", "tau"}) else 2, kept):
        yield Points(block, kept[done : done + len(block.weights)], dms, working.exchange)
        done += len(block.weights)


def _of_orbitals(points: Points, derivatives: DensityFeatures, potentials: np.ndarray) -> np.ndarray:
    """Gradients (3, a, G) by the centres of the active basis functions where they stand for orbitals at the points.

    `potentials` (W, S, G) are the derivatives by local exchange.
    """
    chi, spins = points.chi, len(points.dms)
    smeared = points.smeared[:, points.active]
    first = 2.0 * np.einsum("sg,sag->ag", _spins(derivatives.rho, spins), smeared)
    if derivatives.grad is not None:
        by_grad = _spins(derivatives.grad, spins)
        first += 2.0 * np.einsum("sxg,xsag->ag", by_grad, points.smeared_gradient)
    for potential, vectors in zip(potentials, points.exchange, strict=True):
        first -= np.einsum("sg,sag->ag", potential, points.dms[:, points.active] @ vectors)
    found = -chi[1:4] * first
    for axis in range(3):
        second = np.zeros_like(first)
        if derivatives.grad is not None:
            second += 2.0 * np.einsum("sg,sag->ag", by_grad[:, axis], smeared)
        if derivatives.tau is not None:
            second += np.einsum("sg,sag->ag", _spins(derivatives.tau, spins), points.smeared_gradient[axis])
        if derivatives.grad is not None or derivatives.tau is not None:
            for component in range(3):
                found[component] -= chi[SECOND[component][axis]] * second
    return found


def _explicit(functional: Any, features: DensityFeatures, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """d E / d coords (3, G) and weight times d e / d weight (G,) of a functional of the points themselves."""
    by_coords, by_weight = np.zeros((3, len(weights))), np.zeros(len(weights))
    occupied = features.rho.sum(dim=0) > VACUUM
    if (features.coords is not None or features.weights is not None) and occupied.any():
        shown, factors = features.at(occupied), torch.from_numpy(weights)[occupied]
        mask = occupied.numpy()
        by_coords[:, mask], by_weight[mask] = _by_grid(
            functional, shown, lambda seen: factors @ functional.energy_density(seen).double()
        )
    return by_coords, by_weight


def _whole_grid(
    numint: LearnedNumInt, mol: gto.Mole, grids: Any, dms: np.ndarray
) -> tuple[DensityFeatures, np.ndarray, np.ndarray]:
    """Derivatives of a functional that sees the whole grid: by features, by coords (3, G) and by weights (G,)."""
    needs = numint.functional.needs
    features = joined([points.features(needs) for points in _points(numint, mol, grids, dms)])
    _, derivatives = differentiate(numint.functional, features, numint.name)
    return derivatives, *_by_grid(numint.functional, features, numint.functional.energy)


def _by_grid(functional: Any, features: DensityFeatures, energy: Any) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of energy(features) by coords (3, G) and by weights (G,)."""
    dtype = next((parameter.dtype for parameter in functional.parameters()), torch.float64)
    seen = features.map(lambda tensor: tensor.detach().to(dtype).requires_grad_(True))
    asked = [tensor for tensor in (seen.coords, seen.weights) if tensor is not None]
    found: dict[int, Tensor] = {}
    if asked:
        with torch.enable_grad():
            gradients = torch.autograd.grad(energy(seen), asked, allow_unused=True, materialize_grads=True)
        found = {id(tensor): gradient.double() for tensor, gradient in zip(asked, gradients, strict=True)}
    points = features.rho.shape[-1]
    by_coords = found.get(id(seen.coords), torch.zeros(points, 3)).numpy().T
    return by_coords, found.get(id(seen.weights), torch.zeros(points)).numpy()


def _potentials(derivatives: DensityFeatures, spins: int) -> np.ndarray:
    """Derivatives (W, S, G) by local exchange, by rising omega."""
    found = [_spins(derivatives.hfx[omega], spins) for omega in sorted(derivatives.hfx)]
    return np.stack(found) if found else np.zeros((0, spins, derivatives.rho.shape[-1]))


def _spins(values: Tensor, spins: int) -> np.ndarray:
    """Both spins' derivatives (2, ...), or for S = 1 their sum: a change is that of both halves of the density."""
    return np.asarray(values.numpy() if spins == 2 else values.sum(dim=0, keepdim=True).numpy())
