"""Gradient and Laplacian by automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fusion.wavefunctions.jets.jet import LogPsi


def laplacian_by_autograd(log_psi: Callable[[Tensor], tuple[Tensor, Tensor]], electrons: Tensor) -> LogPsi:
    """Gradient and Laplacian of log|psi| by reverse-over-reverse differentiation, one coordinate at a time.

    Args:
        log_psi: maps electrons (B, N, 3) to sign and log|psi|, each (B,), walkers independent of one another.
        electrons: (B, N, 3), bohr.
    """
    flat = electrons.detach().flatten(1).requires_grad_(True)
    with torch.enable_grad():
        sign, log = log_psi(flat.view_as(electrons))
        (gradient,) = torch.autograd.grad(log.sum(), flat, create_graph=True)
        laplacian = torch.zeros_like(log)
        for d in range(flat.shape[1] if gradient.requires_grad else 0):
            (row,) = torch.autograd.grad(gradient[:, d].sum(), flat, retain_graph=True, allow_unused=True)
            if row is not None:
                laplacian = laplacian + row[:, d]
    return LogPsi(sign.detach(), log.detach(), gradient.detach(), laplacian.detach())
