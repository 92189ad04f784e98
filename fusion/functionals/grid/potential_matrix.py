"""Potential matrix from the derivatives of a functional by the density features, see `numint`."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from fusion.functionals.features import DensityFeatures
from fusion.functionals.grid.working_grid import Block
from fusion.parallel.thread_pool import each, shares


def contract(block: Block, derivatives: DensityFeatures, exchange: np.ndarray) -> np.ndarray:
    """Return M (S, n, n) of the potential V = M + M^T from d E / d feature at a block's points, weights included."""
    matrix = np.zeros((exchange.shape[1], block.size, block.size))
    _add_contraction(block, derivatives, exchange, matrix)
    return matrix


def contracted(blocks: list[Block], derivatives: DensityFeatures, exchanges: list[np.ndarray]) -> np.ndarray:
    """Return the sum of `contract` over successive blocks."""
    edges = np.cumsum([0, *(len(block.weights) for block in blocks)])

    def work(chosen: range) -> np.ndarray:
        matrix = np.zeros((exchanges[0].shape[1], blocks[0].size, blocks[0].size))
        for index in chosen:
            part = derivatives.at(slice(edges[index], edges[index + 1]))
            _add_contraction(blocks[index], part, exchanges[index], matrix)
        return matrix

    return np.asarray(sum(each(work, shares(len(blocks)))))


def _add_contraction(block: Block, derivatives: DensityFeatures, exchange: np.ndarray, matrix: np.ndarray) -> None:
    spins, active, chi = exchange.shape[1], block.active, block.compact
    half = 0.5 * _spins(derivatives.rho, spins)[:, None] * chi[0]
    if derivatives.grad is not None:
        half += np.einsum("sxg,xng->sng", _spins(derivatives.grad, spins), chi[1:])
    near = half @ chi[0].T
    if derivatives.tau is not None:
        scaled = 0.25 * _spins(derivatives.tau, spins)[:, None]
        for axis in (1, 2, 3):
            near += (scaled * chi[axis]) @ chi[axis].T
    every = len(active) == block.size
    matrix[(slice(None),) if every else (slice(None), active[:, None], active)] += near
    if derivatives.hfx:
        potentials = np.stack([_spins(derivatives.hfx[omega], spins) for omega in sorted(derivatives.hfx)])
        columns = slice(None) if every else active
        matrix[:, :, columns] -= 0.5 * np.einsum("wsg,wsng->sng", potentials, exchange) @ chi[0].T


def _spins(values: Tensor, spins: int) -> np.ndarray:
    """Derivatives per spin (S, ...); for a closed shell, the mean over both spins."""
    return np.asarray(values.numpy() if spins == 2 else values.mean(dim=0, keepdim=True).numpy())
