"""Forward Laplacian: value, Jacobian and Laplacian of a network propagated together, layer by layer.

For ``y = f(x)`` with ``x`` a function of the electron coordinates ``r_d``, ``d = 1..D`` (D = 3N),

    dy/dr_d = f'(x) dx/dr_d,        lap y = f'(x) lap x + sum_d (dx/dr_d)^T f''(x) (dx/dr_d),

so one pass through the layers gives everything the kinetic energy needs (Li et al. 2023, arXiv 2307.08214, eqs. 6-9).
A function of one electron, or of one pair of electrons, has only its own three derivatives, and becomes
dense where electrons first mix.

``laplacian_by_autograd`` is the slow reverse-mode path: the reference of the tests, and the path for an ansatz
without its own Laplacian.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Jet(NamedTuple):
    """A batch of functions with first derivatives and Laplacian, stacked so that a linear layer is one product.

    ``data`` has shape (B, D + 2, ..., F): D Jacobian rows, then the Laplacian, then the value. Units are those of
    the function per bohr and per bohr squared. Some rules below overwrite ``data``; their docstrings say so.
    """

    data: Tensor

    @property
    def jacobian(self) -> Tensor:
        """Jacobian (B, D, ..., F)."""
        return self.data[:, :-2]

    @property
    def laplacian(self) -> Tensor:
        """(B, ..., F)."""
        return self.data[:, -2]

    @property
    def value(self) -> Tensor:
        """(B, ..., F)."""
        return self.data[:, -1]


class LogPsi(NamedTuple):
    """Sign and log|psi| (B,), gradient (B, 3N) and Laplacian (B,) of log|psi| with respect to the electrons."""

    sign: Tensor
    log: Tensor
    gradient: Tensor
    laplacian: Tensor


def linear(jet: Jet, weight: Tensor, bias: Tensor | None = None) -> Jet:
    """``x @ weight.T + bias``: derivatives transform like the value, without the bias."""
    data = jet.data @ weight.T
    if bias is not None:
        data[:, -1] += bias
    return Jet(data)


def tanh_residual_(pre: Jet, skip: Jet | None) -> Jet:
    """``tanh(pre)``, or ``(skip + tanh(pre)) / sqrt(2)`` with a residual connection; overwrites ``pre``.

    With t = tanh(x): f' = 1 - t^2 and f'' = -2 t f'.
    """
    scale = 1.0 if skip is None else 2.0**-0.5
    value = torch.tanh(pre.value)
    first = 1 - value * value
    curvature = pre.jacobian.square().sum(1).mul_(value).mul_(-2 * scale)
    first_scaled = first * scale
    pre.jacobian.mul_(first_scaled.unsqueeze(1))
    pre.laplacian.mul_(first_scaled).addcmul_(curvature, first)
    pre.value.copy_(value.mul_(scale))
    if skip is not None:
        pre.data.add_(skip.data, alpha=scale)
    return pre


def radial(vector: Tensor, distance: Tensor, rescale: bool, softening: Tensor | None = None) -> Tensor:
    """Features (|x|, x) of difference vectors with derivatives with respect to x itself.

    Args:
        vector: (..., 3), bohr.
        distance: (...,), its norm, positive.
        softening: h of softened distances s = sqrt(|x|^2 + h^2), which ``distance`` then contains instead of |x|.
        rescale: |x| -> log(1 + |x|) and x -> x log(1 + |x|) / |x| (von Glehn et al. 2023, section 4.1).

    Returns:
        (..., 5, 4): three derivative rows, Laplacian, value; features ordered (|x|, x_1, x_2, x_3).
    """
    r = distance.unsqueeze(-1)
    unit = vector / r
    out = vector.new_zeros(*vector.shape[:-1], 5, 4)
    eye = torch.eye(3, dtype=vector.dtype, device=vector.device)
    if not rescale:
        out[..., :3, 0] = unit
        out[..., 3, 0] = 2 / distance
        out[..., 4, 0] = distance
        out[..., :3, 1:] = eye
        out[..., 4, 1:] = vector
        if softening is not None:  # lap s = 2/s + h^2/s^3
            out[..., 3, 0] += softening**2 / distance**3
        return out
    log = torch.log1p(r)
    g = log / r
    g1 = (1 / (1 + r) - g) / r
    g2 = (-1 / (1 + r) ** 2 - 2 * g1) / r
    out[..., :3, 0] = unit / (1 + r)
    out[..., 3, 0] = (2 / (r * (1 + r)) - 1 / (1 + r) ** 2).squeeze(-1)
    out[..., 4, 0] = log.squeeze(-1)
    out[..., :3, 1:] = g.unsqueeze(-1) * eye + g1.unsqueeze(-1) * unit.unsqueeze(-1) * vector.unsqueeze(-2)
    out[..., 3, 1:] = 2 * g1 * unit + vector * (g2 + 2 * g1 / r)
    out[..., 4, 1:] = vector * g
    if softening is not None:  # |grad s|^2 = 1 - h^2/s^2
        share = (softening**2).unsqueeze(-1) / r**2
        out[..., 3, 0] += (share * (1 / (r * (1 + r)) + 1 / (1 + r) ** 2)).squeeze(-1)
        out[..., 3, 1:] += vector * share * (g1 / r - g2)
    return out


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
