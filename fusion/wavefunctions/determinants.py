"""Sums of Slater determinants, psi = sum_k prod_blocks det A_k, on a logarithmic scale, with forward Laplacian.

Several states are sums of K determinants each, of blocks that have those of the first state first, then those of the
second, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fusion.wavefunctions.jets import Jet, LogPsi
from fusion.wavefunctions.states import StateJets, States


def sum_of_determinants(blocks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Sign and log|psi| of psi = sum_k prod_b det(A_bk).

    Args:
        blocks: orbital matrices (B, K, n_b, n_b), rows electrons, columns orbitals: one block for full determinants,
            one per spin for block determinants.

    Returns:
        sign and log|psi|, each (B,); a vanishing psi has log -inf.
    """
    sign, log = _signs_and_logs(blocks)
    total, largest = _weighted_sum(sign, log)
    return torch.sign(total), torch.log(torch.abs(total)) + largest


def states_of_determinants(blocks: Sequence[Tensor], number: int) -> States:
    """States of orbital matrices (B, S K, n_b, n_b), `number` of them; float64."""
    sign, log = (part.double() for part in _signs_and_logs(blocks))
    values, largest = _scaled(sign, log)
    return States(torch.ones_like(largest), largest, values.unflatten(1, (number, -1)).sum(2))


def laplacian_of_determinants(blocks: Sequence[Jet]) -> LogPsi:
    """Forward Laplacian of the log of a sum of determinants.

    With M_d = (dA/dr_d) A^-1 and p_k = det_k / sum det (Pfau et al. 2020, and the matrix derivative identities):

        d psi / psi   = sum_k p_k tr M_kd
        lap psi / psi = sum_k p_k [tr(lap A_k A_k^-1) + sum_d ((tr M_kd)^2 - tr M_kd^2)]

    Args:
        blocks: jets whose ``data`` has shape (B, D + 2, n_b, K, n_b): electron, determinant, orbital.
    """
    own = _derivatives(blocks)
    total, largest = _weighted_sum(own.sign, own.log)
    weights = own.sign * torch.exp(own.log - largest.unsqueeze(1)) / total.unsqueeze(1)
    gradient = (weights.unsqueeze(-1) * own.slope).sum(1)
    laplacian = (weights * own.second).sum(1) - gradient.square().sum(1)
    return LogPsi(torch.sign(total), torch.log(torch.abs(total)) + largest, gradient, laplacian)


def state_jets_of_determinants(blocks: Sequence[Jet], number: int) -> StateJets:
    """`states_of_determinants` with derivatives, from jets (B, D + 2, n_b, S K, n_b)."""
    own = _Derivatives(*(part.double() for part in _derivatives(blocks)))
    values, largest = _scaled(own.sign, own.log)
    ones = torch.ones_like(values).unsqueeze(-1)
    rows = values.unsqueeze(-1) * torch.cat((own.slope, own.second.unsqueeze(-1), ones), dim=-1)
    none = torch.zeros_like(largest)
    factor = LogPsi(none + 1, largest, own.slope.new_zeros(own.slope.shape[0], own.slope.shape[-1]), none)
    return StateJets(factor, rows.unflatten(1, (number, -1)).sum(2).transpose(1, 2))


class _Derivatives(NamedTuple):
    """Sign and log (B, K) of every determinant, d det / det (B, K, D) and lap det / det (B, K)."""

    sign: Tensor
    log: Tensor
    slope: Tensor
    second: Tensor


def _derivatives(blocks: Sequence[Jet]) -> _Derivatives:
    matrices = [block.value.transpose(1, 2) for block in blocks]
    sign, log = _signs_and_logs(matrices)
    batch, determinants = log.shape
    directions = blocks[0].data.shape[1] - 2
    trace = log.new_zeros(batch, determinants, directions)
    second = log.new_zeros(batch, determinants)
    for block, matrix in zip(blocks, matrices, strict=True):
        n = matrix.shape[-1]
        inverse, _ = torch.linalg.inv_ex(matrix)
        rows = block.data[:, :-1].permute(0, 3, 1, 2, 4).reshape(batch, determinants, (directions + 1) * n, n)
        m = (rows @ inverse).view(batch, determinants, directions + 1, n, n)
        traces = m.diagonal(dim1=-2, dim2=-1).sum(-1)
        trace += traces[..., :-1]
        squares = torch.linalg.vecdot(m[:, :, :-1].flatten(2), m[:, :, :-1].mT.flatten(2))
        second += traces[..., -1] - squares
    # A singular determinant has no inverse and no weight: leaving it out keeps the walker finite.
    regular = torch.isfinite(second) & torch.isfinite(trace).all(-1)
    trace = torch.where(regular.unsqueeze(-1), trace, 0.0)
    return _Derivatives(sign, log, trace, torch.where(regular, second, 0.0) + trace.square().sum(-1))


def _signs_and_logs(matrices: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Sign and log of the product of the blocks' determinants, each (B, K)."""
    sign = torch.ones(matrices[0].shape[:2], dtype=matrices[0].dtype, device=matrices[0].device)
    log = torch.zeros_like(sign)
    for matrix in matrices:
        if matrix.shape[-1] == 1:
            # A 1x1 block is its own determinant; slogdet's derivative would not be finite where it vanishes.
            block_sign, block_log = torch.sign(matrix[..., 0, 0]), torch.log(torch.abs(matrix[..., 0, 0]))
        else:
            block_sign, block_log = torch.linalg.slogdet(matrix)
        sign = sign * block_sign
        log = log + block_log
    return sign, log


def _weighted_sum(sign: Tensor, log: Tensor) -> tuple[Tensor, Tensor]:
    """sum_k sign_k exp(log_k - max) and the maximum, each (B,)."""
    values, largest = _scaled(sign, log)
    return values.sum(1), largest


def _scaled(sign: Tensor, log: Tensor) -> tuple[Tensor, Tensor]:
    """sign_k exp(log_k - max) (B, K) and the maximum (B,)."""
    largest = log.detach().amax(1)
    largest = torch.where(torch.isfinite(largest), largest, 0.0)
    return sign * torch.exp(log - largest.unsqueeze(1)), largest
