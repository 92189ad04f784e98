"""Values of a network with their derivatives with respect to the electrons."""

from __future__ import annotations

from typing import NamedTuple

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


def dense(local: Tensor) -> Jet:
    """Jet (B, 3N + 2, N, F) of functions of one electron each, from (B, 5, N, F): own derivatives, Laplacian, value."""
    batch, _, n, features = local.shape
    data = local.new_zeros(batch, 3 * n + 2, n, features)
    own = data[:, :-2].view(batch, n, 3, n, features).diagonal(dim1=1, dim2=3)  # (B, 3, F, N)
    own.copy_(local[:, :3].transpose(-1, -2))
    data[:, -2:] = local[:, 3:]
    return Jet(data)
