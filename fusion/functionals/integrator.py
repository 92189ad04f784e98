"""PySCF's numerical integrator with a learned functional in it.

The spin densities on the grid, local exchange among them, go to the functional in blocks; its derivatives are
contracted with the orbitals into the potential matrix (Kirkpatrick et al., Science 374, 1385 (2021), supplement,
sec. 1.3, and Neumann, Nobes and Handy, Mol. Phys. 87, 1 (1996), for the semi-local part):

    V = M + M^T,   M_ab = sum_g w [ v_rho chi_a / 2 + v_grad . grad chi_a - 1/2 sum_o v_hfx^o F^o_a ] chi_b
                        + 1/4 sum_g w v_tau grad chi_a . grad chi_b
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pyscf import gto
from pyscf.dft.numint import NumInt
from torch import Tensor

from fusion.functionals.differentiation import differentiate
from fusion.functionals.features import DensityFeatures, check_needs, joined, omegas
from fusion.functionals.local_exchange import LocalExchange
from fusion.functionals.protocol import Functional, is_pointwise

BLOCK = 4096
"""Grid points that are worked on at once."""


@dataclass(frozen=True)
class Block:
    """Some points of the grid and what the orbitals are there."""

    orbitals: np.ndarray
    """(V, n, G): atomic orbitals, and their gradient if V = 4."""
    coords: np.ndarray
    """(G, 3) bohr."""
    weights: np.ndarray
    """(G,)."""


@dataclass(frozen=True)
class BlockDensity:
    """The density matrices (S, n, n) at the points of a block; S = 1 stands for two equal spins."""

    features: DensityFeatures
    """Always of both spins."""
    exchange: np.ndarray
    """(W, S, n, G): F of local exchange, for W range separations."""


class LearnedNumInt(NumInt):
    """`NumInt` whose exchange-correlation energy is `functional`'s; the `xc_code` PySCF passes around is not read."""

    def __init__(self, functional: Functional, name: str = "the functional") -> None:
        super().__init__()
        check_needs(functional.needs, name)
        self.functional, self.name = functional, name
        self.omegas = omegas(functional.needs)

    def _xc_type(self, xc_code: str) -> str:
        if "tau" in self.functional.needs:
            return "MGGA"
        return "GGA" if "grad" in self.functional.needs else "LDA"

    def hybrid_coeff(self, xc_code: str, spin: int = 0) -> float:
        return 0.0

    def rsh_coeff(self, xc_code: str) -> tuple[float, float, float]:
        return 0.0, 0.0, 0.0

    def nlc_coeff(self, xc_code: str) -> tuple[()]:
        return ()

    def nr_rks(self, mol: Any, grids: Any, xc_code: str, dms: Any, *args: Any, **kwargs: Any) -> Any:
        """Electrons, energy (hartree) and potential matrix (n, n) of a closed shell's density matrix (n, n)."""
        electrons, energy, matrix = self._integrate(mol, grids, 0.5 * np.asarray(dms)[None])
        return float(2.0 * electrons[0]), energy, matrix[0]

    def nr_uks(self, mol: Any, grids: Any, xc_code: str, dms: Any, *args: Any, **kwargs: Any) -> Any:
        """Electrons per spin, energy (hartree) and potential matrices (2, n, n) of density matrices (2, n, n)."""
        return self._integrate(mol, grids, np.asarray(dms))

    def _integrate(self, mol: Any, grids: Any, dms: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        if dms.ndim != 3:
            raise NotImplementedError(f"{self.name} takes one density at a time")
        electrons, energy, matrix = np.zeros(len(dms)), 0.0, np.zeros_like(dms)
        whole = None if is_pointwise(self.functional) else self._whole_grid(mol, grids, dms)
        start = 0
        for block in self.blocks(mol, grids):
            density = self.density(mol, block, dms)
            if whole is None:
                values, derivatives = differentiate(self.functional, density.features, self.name)
                energy += float(block.weights @ values.numpy())
                derivatives = derivatives.times(torch.from_numpy(block.weights))
            else:
                energy, derivatives = whole[0], whole[1].at(slice(start, start + len(block.weights)))
            start += len(block.weights)
            electrons += density.features.rho[: len(dms)].numpy() @ block.weights
            matrix += contract(block, derivatives, density.exchange)
        return electrons, energy, matrix + matrix.transpose(0, 2, 1)

    def blocks(self, mol: gto.Mole, grids: Any) -> Iterator[Block]:
        """The grid in blocks, with the orbitals and whichever of their derivatives the functional needs."""
        derivative = 0 if self.functional.needs.isdisjoint({"grad", "tau"}) else 1
        for start in range(0, len(grids.weights), BLOCK):
            coords = grids.coords[start : start + BLOCK]
            orbitals = np.reshape(self.eval_ao(mol, coords, derivative), (-1, len(coords), mol.nao))
            yield Block(orbitals.transpose(0, 2, 1), coords, grids.weights[start : start + BLOCK])

    def density(self, mol: gto.Mole, block: Block, dms: np.ndarray) -> BlockDensity:
        """Features of the symmetric density matrices (S, n, n) at the points of a block."""
        needs, chi = self.functional.needs, block.orbitals
        smeared = dms @ chi[0]  # E (S, n, G)
        rho = np.einsum("ng,sng->sg", chi[0], smeared)
        grad = tau = None
        if "grad" in needs:
            grad = 2.0 * np.einsum("xng,sng->sxg", chi[1:], smeared)
        if "tau" in needs:
            tau = 0.5 * sum(np.einsum("ng,sng->sg", chi[axis], dms @ chi[axis]) for axis in (1, 2, 3))
        exchange = np.zeros((0, *smeared.shape))
        if self.omegas:
            exchange = LocalExchange(mol, self.omegas).contract(block.coords, smeared)
        local = -0.5 * np.einsum("sng,wsng->wsg", smeared, exchange)
        features = DensityFeatures(
            rho=_both(rho),
            grad=None if grad is None else _both(grad),
            tau=None if tau is None else _both(tau),
            hfx={omega: _both(values) for omega, values in zip(self.omegas, local, strict=True)},
            coords=torch.from_numpy(block.coords) if "coords" in needs else None,
            weights=torch.from_numpy(block.weights) if "weights" in needs else None,
        )
        return BlockDensity(features, exchange)

    def _whole_grid(self, mol: Any, grids: Any, dms: np.ndarray) -> tuple[float, DensityFeatures]:
        """Energy of a functional that sees the whole grid, and its derivatives."""
        features = joined([self.density(mol, block, dms).features for block in self.blocks(mol, grids)])
        energy, derivatives = differentiate(self.functional, features, self.name)
        return float(energy), derivatives


def contract(block: Block, derivatives: DensityFeatures, exchange: np.ndarray) -> np.ndarray:
    """M (S, n, n) of the potential V = M + M^T from d E / d feature at a block's points, weights included."""
    spins = exchange.shape[1]
    chi = block.orbitals
    half = 0.5 * _spins(derivatives.rho, spins)[:, None] * chi[0]
    if derivatives.grad is not None:
        half += np.einsum("sxg,xng->sng", _spins(derivatives.grad, spins), chi[1:])
    for potential, vectors in zip((derivatives.hfx[omega] for omega in sorted(derivatives.hfx)), exchange, strict=True):
        half -= 0.5 * _spins(potential, spins)[:, None] * vectors
    matrix = half @ chi[0].T
    if derivatives.tau is not None:
        scaled = 0.25 * _spins(derivatives.tau, spins)[:, None]
        for axis in (1, 2, 3):
            matrix += (scaled * chi[axis]) @ chi[axis].T
    return np.asarray(matrix)


def _both(values: np.ndarray) -> Tensor:
    """Two spins (2, ...) from one or two."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor if len(values) == 2 else tensor.expand(2, *tensor.shape[1:])


def _spins(values: Tensor, spins: int) -> np.ndarray:
    """Of both spins' derivatives (2, ...) those of each, or for S = 1 their mean: that for half of both spins."""
    return np.asarray(values.numpy() if spins == 2 else values.mean(dim=0, keepdim=True).numpy())
