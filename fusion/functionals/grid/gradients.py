"""Gradient of a learned functional's energy on a grid by the positions of nuclei, at fixed density matrices.

The formulas are those of `fusion.functionals.scf.gradients`. Blocks of grid points are processed one by one, so
that memory does not grow with the grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from pyscf import gto
from torch import Tensor

from fusion.functionals.features import DensityFeatures, joined, of_spins
from fusion.functionals.grid.becke_weights import check_differentiable, weight_gradient
from fusion.functionals.grid.differentiation import VACUUM, differentiate
from fusion.functionals.grid.numint import SCREENING, LearnedNumInt, PointValues
from fusion.functionals.grid.working_grid import Block, WorkingGrid, nuclei, plain_blocks
from fusion.functionals.local_exchange.gradients import exchange_gradient
from fusion.functionals.local_exchange.local_exchange import LocalExchange
from fusion.functionals.local_exchange.shell_pairs import shell_pairs
from fusion.functionals.protocol import is_pointwise

PLACES: Final = ("coords", "weights", "nuclei")
"""Features that do not depend on the density."""
SECOND: Final = ((4, 5, 6), (5, 7, 8), (6, 8, 9))
"""Indices of the second derivatives xx, xy, ... in PySCF's orbitals, after value and gradient."""


@dataclass(frozen=True)
class Points:
    """Some grid points with the density matrices (S, n, n) applied to the basis functions there."""

    block: Block
    """Points with gradients of the basis functions and, if the functional needs them, second derivatives."""
    indices: np.ndarray
    """(G,) indices into all points of the grid."""
    dms: np.ndarray
    """(S, n, n); S = 1 stands for two equal spins."""
    local: LocalExchange | None

    @property
    def chi(self) -> np.ndarray:
        """(V, a, G): active basis functions and their derivatives."""
        return self.block.compact

    @property
    def active(self) -> np.ndarray:
        """(a,) indices of the active ones among the n basis functions."""
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
        block = self.block
        kept = block.exchange(self.smeared)
        if kept is not None:
            return kept
        importance = np.abs(block.weights) * block.largest
        return self.local.contract(block.coords, self.smeared, importance, SCREENING)

    def features(self, needs: frozenset[str]) -> DensityFeatures:
        """Density features that the functional needs."""
        chi, smeared = self.chi, self.smeared[:, self.active]
        grad = tau = None
        if "grad" in needs:
            grad = 2.0 * np.einsum("xag,sag->sxg", chi[1:4], smeared)
        if "tau" in needs:
            tau = 0.5 * np.einsum("xag,xsag->sg", chi[1:4], self.smeared_gradient)
        omegas = () if self.local is None else self.local.omegas
        local = -0.5 * np.einsum("sng,wsng->wsg", self.smeared, self.exchange)
        rho, hfx = np.einsum("ag,sag->sg", chi[0], smeared), dict(zip(omegas, local, strict=True))
        return of_spins(needs, self.block.coords, self.block.weights, self.block.nuclei, rho, grad, tau, hfx)


def exchange_correlation_gradient(
    numint: LearnedNumInt, mol: gto.Mole, grids: Any, dms: np.ndarray, grid_response: bool = True
) -> np.ndarray:
    """Gradient (A, 3), hartree/bohr, for spin density matrices (2, n, n), or (1, n, n) for two equal ones.

    Without `grid_response` the points of the grid and their weights are fixed.
    """
    functional = numint.functional
    if grid_response:
        check_differentiable(grids)
    pairs = shell_pairs(mol, derivatives=True) if numint.omegas else None
    gradient, centres = np.zeros((mol.natm, 3)), np.zeros((3, mol.nao))
    moving, by_weight = np.zeros((3, len(grids.weights))), np.zeros(len(grids.weights))
    whole_grid = None if is_pointwise(functional) else _whole_grid(numint, mol, grids, dms)
    by_nuclei = np.zeros((len(nuclei(mol)), 3)) if whole_grid is None else whole_grid[1].nuclei
    working = numint.working_grid(mol, grids, dms)
    known = numint.values_at(working, dms)
    done = 0
    for points in _points(numint, working, dms):
        if whole_grid is None:
            values, derivatives_, explicit = _at_points(numint, points, known)
            by_weight[points.indices] = values.numpy() + explicit.weights
            by_coords, by_nuclei = explicit.coords, by_nuclei + explicit.nuclei
            derivatives = derivatives_.times(torch.from_numpy(points.block.weights))
        else:
            chosen = slice(done, done + len(points.indices))
            derivatives, by_coords = whole_grid[0].at(chosen), whole_grid[1].coords[:, chosen]
            by_weight[points.indices] = whole_grid[1].weights[chosen]
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
    gradient[mol.atom_charges() > 0] += by_nuclei
    if grid_response:
        owned = grids.atm_idx >= 0
        np.add.at(gradient, grids.atm_idx[owned], moving.T[owned])
        gradient += weight_gradient(grids, by_weight)
    return gradient


def _points(numint: LearnedNumInt, working: WorkingGrid, dms: np.ndarray) -> Iterator[Points]:
    """Iterate over the points that contribute to the energy, in the order of the working grid."""
    indices = np.flatnonzero(working.kept)
    order = 1 if numint.functional.needs.isdisjoint({"grad", "tau"}) else 2
    done = 0
    for index, block in enumerate(plain_blocks(working.mol, working, order)):
        kept = replace(block, index=index, kept=working.integrals)
        yield Points(kept, indices[done : done + len(block.weights)], dms, working.exchange)
        done += len(block.weights)


def _at_points(
    numint: LearnedNumInt, points: Points, known: PointValues | None
) -> tuple[Tensor, DensityFeatures, Explicit]:
    """Energy density of a pointwise functional at some points, and its derivatives."""
    functional, weights = numint.functional, points.block.weights
    if functional.needs.isdisjoint(PLACES) and known is not None:
        nothing = Explicit(np.zeros((3, 1)), np.zeros(1), np.zeros(()))
        return *known.at(points.block.index), nothing
    features = points.features(functional.needs)
    values, derivatives = differentiate(functional, features, numint.name)
    return values, derivatives, _explicit(functional, features, weights)


def _of_orbitals(points: Points, derivatives: DensityFeatures, potentials: np.ndarray) -> np.ndarray:
    """Gradients (3, a, G) by the centres of the active basis functions, through the orbitals at the points.

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
    gradients = -chi[1:4] * first
    for axis in range(3):
        second = np.zeros_like(first)
        if derivatives.grad is not None:
            second += 2.0 * np.einsum("sg,sag->ag", by_grad[:, axis], smeared)
        if derivatives.tau is not None:
            second += np.einsum("sg,sag->ag", _spins(derivatives.tau, spins), points.smeared_gradient[axis])
        if derivatives.grad is not None or derivatives.tau is not None:
            for component in range(3):
                gradients[component] -= chi[SECOND[component][axis]] * second
    return gradients


@dataclass(frozen=True)
class Explicit:
    """Derivatives of an energy by the places that its functional sees, apart from those by the density there."""

    coords: np.ndarray
    """(3, G)."""
    weights: np.ndarray
    """(G,)."""
    nuclei: np.ndarray
    """(A, 3), or zero for a functional that does not see the nuclei."""


def _explicit(functional: Any, features: DensityFeatures, weights: np.ndarray) -> Explicit:
    """Derivatives of the energy by coords and nuclei, and weight times d e / d weight, of a pointwise functional."""
    by_coords, by_weight, by_nuclei = np.zeros((3, len(weights))), np.zeros(len(weights)), np.zeros(())
    occupied = features.rho.sum(dim=0) > VACUUM
    if occupied.any():
        shown, factors, mask = features.at(occupied), torch.from_numpy(weights)[occupied], occupied.numpy()
        explicit = _by_places(functional, shown, lambda seen: factors @ functional.energy_density(seen).double())
        by_coords[:, mask], by_weight[mask], by_nuclei = explicit.coords, explicit.weights, explicit.nuclei
    return Explicit(by_coords, by_weight, by_nuclei)


def _whole_grid(numint: LearnedNumInt, mol: gto.Mole, grids: Any, dms: np.ndarray) -> tuple[DensityFeatures, Explicit]:
    """Derivatives of a functional of the whole grid."""
    functional: Any = numint.functional
    working = numint.working_grid(mol, grids, dms)
    features = joined([points.features(functional.needs) for points in _points(numint, working, dms)])
    _, derivatives = differentiate(functional, features, numint.name)
    return derivatives, _by_places(functional, features, functional.energy)


def _by_places(functional: Any, features: DensityFeatures, energy: Any) -> Explicit:
    """Derivatives of energy(features) by coords, weights and nuclei."""
    dtype = next((parameter.dtype for parameter in functional.parameters()), torch.float64)
    seen = features.map(lambda tensor: tensor.detach().to(dtype))
    places = {name: tensor for name in PLACES if (tensor := getattr(seen, name)) is not None}
    derivatives: dict[str, np.ndarray] = {}
    if places:
        variables = [tensor.requires_grad_(True) for tensor in places.values()]
        with torch.enable_grad():
            gradients = torch.autograd.grad(energy(seen), variables, allow_unused=True, materialize_grads=True)
        derivatives = {name: gradient.double().numpy() for name, gradient in zip(places, gradients, strict=True)}
    points = features.rho.shape[-1]
    return Explicit(
        derivatives.get("coords", np.zeros((points, 3))).T,
        derivatives.get("weights", np.zeros(points)),
        derivatives.get("nuclei", np.zeros(())),
    )


def _potentials(derivatives: DensityFeatures, spins: int) -> np.ndarray:
    """Derivatives (W, S, G) by local exchange, by rising omega."""
    potentials = [_spins(derivatives.hfx[omega], spins) for omega in sorted(derivatives.hfx)]
    return np.stack(potentials) if potentials else np.zeros((0, spins, derivatives.rho.shape[-1]))


def _spins(values: Tensor, spins: int) -> np.ndarray:
    """Derivatives per spin (2, ...); for S = 1 their sum, as a change applies to both halves of the density."""
    return np.asarray(values.numpy() if spins == 2 else values.sum(dim=0, keepdim=True).numpy())
