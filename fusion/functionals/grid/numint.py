"""PySCF's numerical integrator with a learned functional.

The functional is evaluated on the spin densities and local exchange of blocks of the grid. Its derivatives are
contracted with the orbitals into the potential matrix (Kirkpatrick et al., Science 374, 1385 (2021), supplement,
sec. 1.3, and Neumann, Nobes and Handy, Mol. Phys. 87, 1 (1996), for the semi-local part):

    V = M + M^T,   M_ab = sum_g w [ v_rho chi_a / 2 + v_grad . grad chi_a - 1/2 sum_o v_hfx^o F^o_a ] chi_b
                        + 1/4 sum_g w v_tau grad chi_a . grad chi_b
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from pyscf import gto
from pyscf.dft.numint import NumInt
from torch import Tensor

from fusion.functionals.features import DensityFeatures, check_needs, joined, of_spins, omegas
from fusion.functionals.grid.drafts import CoarseDrafts, Evaluation, coarse_grids
from fusion.functionals.grid.potential_matrix import contracted
from fusion.functionals.grid.precision import Precision, Weights
from fusion.functionals.grid.working_grid import (
    BLOCK,
    Block,
    Dropped,
    WorkingGrid,
    fingerprint,
    least_memory,
    plain_blocks,
)
from fusion.functionals.local_exchange.local_exchange import LocalExchange
from fusion.functionals.protocol import Functional, is_pointwise
from fusion.parallel.memory import available_memory
from fusion.parallel.thread_pool import each

NEGLIGIBLE: Final = 1e-11
"""Electrons at a grid point (density times weight) below which local exchange is not computed."""
SCREENING: Final = 1e-11
"""Limit (hartree) below which integrals times density orbitals, weight and largest orbital are left out."""
DRAFT_SCREENING: Final = 1e-10
"""Value of `SCREENING` while `LearnedNumInt.draft` is true.

What is left out has one sign and adds up. With 1e-8, the gradient of the orbitals was wrong by 1.4e-5 hartree in
benzene and 1.7e-4 in biphenyl, and the SCF of C38H28 stopped at 1e-3. With 1e-10, it is wrong by 1e-6 in biphenyl, and
drafts of C38H28 take half as much time again.
"""
SAME_DENSITY: Final = 1e-11
"""Difference of density matrices below which they count as equal."""


@dataclass(frozen=True)
class PointValues:
    """Energy density and derivatives of a pointwise functional at the points of a working grid."""

    grid: WorkingGrid
    dms: np.ndarray
    """(S, n, n) of the density."""
    groups: list[tuple[Tensor, DensityFeatures]]
    """For each group of blocks."""
    weights: Weights
    """Parameters of the functional at the evaluation."""

    def at(self, index: int) -> tuple[Tensor, DensityFeatures]:
        """Energy density (G,) and derivatives at the points of a block."""
        values, derivatives = self.groups[index // self.grid.group]
        start = index % self.grid.group * BLOCK
        chosen = slice(start, start + BLOCK)
        return values[chosen], derivatives.at(chosen)


@dataclass(frozen=True)
class BlockDensity:
    """Density matrices (S, n, n) evaluated at the points of a block; S = 1 stands for two equal spins."""

    features: DensityFeatures
    """Features, always of both spins."""
    exchange: np.ndarray
    """(W, S, n, G): F of local exchange, for W range separations."""


class LearnedNumInt(NumInt):
    """`NumInt` whose exchange-correlation energy is `functional`'s; PySCF's `xc_code` is ignored.

    Points, orbitals and integrals are kept between calls while molecule and grid stay the same, until `reset`, in at
    most `memory_mb` megabytes (default: half of the memory available when an SCF begins). Raises InputError if that is
    too little for a single block of points.
    """

    draft: bool = False
    """If true, the functional computes in float32 and local exchange is updated by changes of the density only."""
    tolerance: float = 0.0
    """Error of the energy (hartree) allowed from points with few electrons where the functional computes in float32."""
    drafts: CoarseDrafts | None = None
    """If not None, drafts are integrated on this coarse grid."""

    def __init__(self, functional: Functional, name: str = "the functional", memory_mb: float | None = None) -> None:
        super().__init__()
        check_needs(functional.needs, name)
        self.functional, self.name, self.memory_mb = functional, name, memory_mb
        self.precision = Precision(functional, name)
        self.omegas = omegas(functional.needs)
        self.dropped = Dropped()
        """Points that the last call left out."""
        self.on_grid: Callable[[int, int], None] | None = None
        """Callback with the numbers of finished and of all blocks during an integration."""
        self.last: Evaluation | None = None
        """Last evaluation that was not a draft."""
        self._grid: WorkingGrid | None = None
        self._points: PointValues | None = None
        self._local: tuple[Any, LocalExchange] | None = None

    def reset(self, mol: Any = None) -> LearnedNumInt:
        """Discard everything kept from earlier calls."""
        self._grid = self._points = self._local = self.drafts = self.last = None
        return self

    @property
    def memory(self) -> float:
        """Memory (bytes) for everything that is kept, the part of the drafts included."""
        return 0.5 * available_memory() if self.memory_mb is None else 1e6 * self.memory_mb

    def local_exchange(self, mol: gto.Mole) -> LocalExchange | None:
        """Return the integrals of a molecule's basis, which all grids share; None if the functional needs none."""
        if not self.omegas:
            return None
        if self._local is None or self._local[0] != fingerprint(mol):
            self._local = fingerprint(mol), LocalExchange(mol, self.omegas)
        return self._local[1]

    def with_coarse_drafts(self, mol: gto.Mole, grids: Any) -> CoarseDrafts | None:
        """Return drafts on a coarse grid with a quarter of the memory; None without such a grid, or if memory is short.

        Set `drafts` to the result.
        """
        coarse, share = coarse_grids(grids), 0.25 * self.memory
        if coarse is None:
            return None
        exchange = self.local_exchange(mol)
        needs = [sum(least_memory(mol, len(some.weights), exchange, self._derivative)) for some in (coarse, grids)]
        if needs[0] > share or needs[1] > 3.0 * share:
            return None
        own = LearnedNumInt(self.functional, self.name, 1e-6 * share)
        own.draft, own._local, own.on_grid = True, self._local, self.on_grid
        return CoarseDrafts(own, coarse)

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
        electrons, energy, matrix = self.integrate(mol, grids, 0.5 * np.asarray(dms)[None])
        return float(2.0 * electrons[0]), energy, matrix[0]

    def nr_uks(self, mol: Any, grids: Any, xc_code: str, dms: Any, *args: Any, **kwargs: Any) -> Any:
        """Electrons per spin, energy (hartree) and potential matrices (2, n, n) of density matrices (2, n, n)."""
        return self.integrate(mol, grids, np.asarray(dms))

    def integrate(self, mol: Any, grids: Any, dms: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        """Electrons per spin (S,), energy (hartree) and potential matrices of density matrices (S, n, n)."""
        if dms.ndim != 3:
            raise NotImplementedError(f"{self.name} takes one density at a time")
        if self.draft and self.drafts is not None:
            return self.drafts.integrate(mol, dms)
        grid = self.working_grid(mol, grids, dms)
        electrons, energy, matrix = np.zeros(len(dms)), 0.0, np.zeros_like(dms)
        whole_grid = None if is_pointwise(self.functional) else self._whole_grid(grid, dms)
        before, grid.reference = grid.reference, None  # until all blocks are at the new density
        highest, parts = 0.0, list[tuple[Tensor, DensityFeatures]]()
        for first in range(0, len(grid), grid.group):
            indices = range(first, min(first + grid.group, len(grid)))
            results = each(lambda index: self._followed(grid, index, dms, before), indices)
            blocks, densities = [block for block, _ in results], [density for _, density in results]
            features = joined([density.features for density in densities])
            weights = torch.from_numpy(np.concatenate([block.weights for block in blocks]))
            start = grid.starts[first]
            if whole_grid is None:
                if self.draft:
                    values, derivatives = self.precision.rough(features)
                else:
                    tolerance = self.tolerance * len(weights) / len(grid.weights)
                    values, derivatives = self.precision.mixed(features, weights, tolerance)
                parts.append((values, derivatives))
                energy += float(weights @ values)
                highest = max(highest, _energy_per_electron(values, features.rho, weights))
                derivatives = derivatives.times(weights)
            else:
                energy, derivatives = whole_grid[0], whole_grid[1].at(slice(start, start + len(weights)))
            electrons += (features.rho[: len(dms)] @ weights).numpy()
            matrix += contracted(blocks, derivatives, [density.exchange for density in densities])
            if self.on_grid is not None:
                self.on_grid(min(first + grid.group, len(grid)), len(grid))
        grid.reference = dms.copy()
        self.dropped = grid.dropped(highest)
        matrix = matrix + matrix.transpose(0, 2, 1)
        if not self.draft:
            self.last = Evaluation(dms.copy(), energy, matrix.copy())  # PySCF adds to the matrix
            self._points = PointValues(grid, self.last.dms, parts, Weights.of(self.functional)) if parts else None
        return electrons, energy, matrix

    def values_at(self, grid: WorkingGrid, dms: np.ndarray) -> PointValues | None:
        """Return what the last evaluation that was not a draft found at the points.

        None if it was at another density or with other parameters.
        """
        last = self._points
        if last is None or last.grid is not grid or last.dms.shape != dms.shape:
            return None
        if not last.weights.are_those_of(self.functional):
            return None
        return last if np.abs(last.dms - dms).max() < SAME_DENSITY else None

    @property
    def _derivative(self) -> int:
        """Highest derivative of the orbitals that the functional needs."""
        return 0 if self.functional.needs.isdisjoint({"grad", "tau"}) else 1

    def blocks(self, mol: gto.Mole, grids: Any) -> Iterator[Block]:
        """Iterate over the whole grid in blocks, with the orbitals and the derivatives that the functional needs."""
        return plain_blocks(mol, grids, self._derivative)

    def working_grid(self, mol: gto.Mole, grids: Any, dms: np.ndarray) -> WorkingGrid:
        """Return the working grid of this molecule and grid, with the points that matter at the density matrices.

        With local exchange, a pointwise functional is not evaluated at points of negligible density. Every call that
        is not a draft checks the points again that were left out at an earlier density.
        """
        selects = bool(self.omegas) and is_pointwise(self.functional)
        if self._grid is not None and self._grid.belongs_to(mol, grids):
            if not selects or self.draft:
                return self._grid
            density = self._electrons(mol, grids, dms, ~self._grid.kept)
            self._grid.dropped_electrons = float(density.sum())
            if density.max(initial=0.0) < 10.0 * NEGLIGIBLE:
                return self._grid
        self._grid = None  # frees its memory before the next one is built
        relevant = np.ones(len(grids.weights), dtype=bool)
        density = np.zeros(len(relevant))
        if selects:
            density = self._electrons(mol, grids, dms, relevant)
            relevant = ~(density < NEGLIGIBLE)  # NaN counts as relevant, so that it raises an error later
        exchange = self.local_exchange(mol)
        memory = self.memory if self.drafts is None else 0.75 * self.memory
        self._grid = WorkingGrid(mol, grids, relevant, exchange, self._derivative, len(dms), memory)
        self._grid.dropped_electrons = float(density[~relevant].sum())
        return self._grid

    def _electrons(self, mol: gto.Mole, grids: Any, dms: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Density times weight (G,) at the chosen points (mask) of a grid."""
        electrons = []
        total = dms.sum(axis=0) * (2.0 / len(dms))
        for block in plain_blocks(mol, grids, 0, np.flatnonzero(chosen)):
            chi, matrix = block.compact[0], total[np.ix_(block.active, block.active)]
            electrons.append(np.abs(np.einsum("ng,ng->g", chi, matrix @ chi) * block.weights))
        return np.concatenate(electrons) if electrons else np.zeros(0)

    def density(self, mol: gto.Mole, block: Block, dms: np.ndarray) -> BlockDensity:
        """Features of the symmetric density matrices (S, n, n) at the points of a block."""
        smeared = dms[:, :, block.active] @ block.compact[0]
        return self._features(block, dms, smeared, self.exchange(mol, block, smeared))

    def exchange(self, mol: gto.Mole, block: Block, smeared: np.ndarray) -> np.ndarray:
        """F (W, S, n, G) of E (S, n, G) at the points of a block."""
        if not self.omegas:
            return np.zeros((0, *smeared.shape))
        exchange = block.exchange(smeared, self.draft)
        grid = self._grid
        if exchange is not None:
            return exchange
        local = grid.exchange if grid is not None and grid.is_of(mol) else LocalExchange(mol, self.omegas)
        assert local is not None
        return local.contract(block.coords, smeared)

    def _followed(
        self, grid: WorkingGrid, index: int, dms: np.ndarray, before: np.ndarray | None
    ) -> tuple[Block, BlockDensity]:
        """Return a block of the working grid and its `density`.

        If no integrals are kept, F of a draft is the last F plus that of the change since `before`.
        """
        block = grid.block(index)
        smeared = dms[:, :, block.active] @ block.compact[0]
        if grid.exchange is None:
            return block, self._features(block, dms, smeared, np.zeros((0, *smeared.shape)))
        stored = block.exchange(smeared, self.draft)
        if stored is not None:
            grid.last_exchange.pop(index, None)
            return block, self._features(block, dms, smeared, stored)
        last = grid.last_exchange.get(index) if self.draft and before is not None and len(before) == len(dms) else None
        change = smeared if last is None else (dms - before)[:, :, block.active] @ block.compact[0]
        exchange = grid.exchange.contract(
            block.coords,
            change,
            importance=np.abs(block.weights) * block.largest,
            threshold=DRAFT_SCREENING if self.draft else SCREENING,
        )
        if last is not None:
            exchange += last
        if grid.stores_exchange and len(dms) <= grid.spins:
            grid.last_exchange[index] = exchange.astype(np.float32)
        return block, self._features(block, dms, smeared, exchange)

    def _features(self, block: Block, dms: np.ndarray, smeared: np.ndarray, exchange: np.ndarray) -> BlockDensity:
        """Build the density of a block from E (S, n, G) and F (W, S, n, G)."""
        needs, chi, active = self.functional.needs, block.compact, block.active
        near = smeared[:, active]
        rho = np.einsum("ng,sng->sg", chi[0], near)
        grad = tau = None
        if "grad" in needs:
            grad = 2.0 * np.einsum("xng,sng->sxg", chi[1:], near)
        if "tau" in needs:
            matrices = dms[:, active[:, None], active]
            tau = 0.5 * sum(np.einsum("ng,sng->sg", chi[axis], matrices @ chi[axis]) for axis in (1, 2, 3))
        local = -0.5 * np.einsum("sng,wsng->wsg", smeared, exchange)
        hfx = dict(zip(self.omegas, local, strict=True))
        return BlockDensity(of_spins(needs, block.coords, block.weights, block.nuclei, rho, grad, tau, hfx), exchange)

    def _whole_grid(self, grid: WorkingGrid, dms: np.ndarray) -> tuple[float, DensityFeatures]:
        """Energy of a functional of the whole grid, and its derivatives."""
        features = joined([self.density(grid.mol, block, dms).features for block in grid.blocks()])
        energy, derivatives = self.precision.rough(features) if self.draft else self.precision.fine(features)
        return float(energy), derivatives


def _energy_per_electron(values: Tensor, rho: Tensor, weights: Tensor) -> float:
    """Largest |e| / rho among the points with few electrons."""
    density = rho.sum(dim=0)
    few = (density * weights.abs() < 10.0 * NEGLIGIBLE) & (density > 0)
    return float((values[few] / density[few]).abs().max()) if few.any() else 0.0
