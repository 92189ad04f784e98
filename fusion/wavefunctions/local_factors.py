"""Products of jets, which depend on all electrons, with functions of one electron each."""

from __future__ import annotations

import torch
from torch import Tensor

from fusion.wavefunctions.jets import Jet


def multiply_local_(phi: Jet, local: Tensor, start: int) -> None:
    """phi *= e, in place, where e_i, (B, 5, n, O), depends on electron ``start + i`` alone.

    lap(phi e) = e lap phi + 2 grad_i phi . grad_i e + phi lap e.
    """
    batch, rows, n, orbitals = phi.data.shape
    value = phi.value.clone()
    by_electron = phi.jacobian.view(batch, (rows - 2) // 3, 3, n, orbitals)[:, start : start + n]
    own = by_electron.diagonal(dim1=1, dim2=3)  # (B, 3, O, n)
    slope = local[:, :3].transpose(-1, -2)
    cross = (own * slope).sum(1).transpose(-1, -2)
    phi.data.mul_(local[:, 4:5])
    own.addcmul_(slope, value.unsqueeze(1).transpose(-1, -2))
    phi.laplacian.add_(cross, alpha=2).addcmul_(value, local[:, 3])


def mixture(factors: Tensor, orbitals: Tensor) -> Tensor:
    """sum_p f_op chi_p, (B, n, O), of factors (B, n, O P) and orbitals (B, n, P) of the same electrons."""
    by_orbital = factors.unflatten(-1, (-1, orbitals.shape[-1]))
    return (by_orbital @ orbitals.unsqueeze(-1)).squeeze(-1)


def mixture_jet(factors: Jet, local: Tensor, start: int) -> Jet:
    """Jet (B, 3N + 2, n, O) of `mixture`; chi_i, (B, 5, n, P), depends on electron ``start + i`` alone.

    lap(f chi) = chi lap f + 2 grad_i f . grad_i chi + f lap chi.
    """
    n, number = local.shape[2:]
    f = factors.data.unflatten(-1, (-1, number))
    data = (f @ local[:, None, 4].unsqueeze(-1)).squeeze(-1)
    from_chi = (f[:, -1:] @ local[:, :4].unsqueeze(-1)).squeeze(-1)
    slopes = _of_own(f, start, n)  # (B, 3, O, P, n)
    data[:, -2] += from_chi[:, 3] + 2 * torch.einsum("bcopn,bcnp->bno", slopes, local[:, :3])
    _of_own(data, start, n).add_(from_chi[:, :3].transpose(-1, -2))
    return Jet(data)


def _of_own(data: Tensor, start: int, n: int) -> Tensor:
    """View (B, 3, ..., n) of the derivatives in jets (B, 3N + 2, n, ...) with respect to the own electron."""
    return data[:, :-2].unflatten(1, (-1, 3))[:, start : start + n].diagonal(dim1=1, dim2=3)


def add_local_(data: Tensor, local: Tensor, start: int) -> None:
    """Add local jets (B, 5, n, O) of electrons ``start``, ``start + 1`` ... to dense ones (B, 3N + 2, n, O)."""
    data[:, -2:] += local[:, 3:]
    _of_own(data, start, data.shape[2]).add_(local[:, :3].transpose(-1, -2))
