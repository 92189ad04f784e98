"""Values and derivatives of several states at the same electrons."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from fusion.wavefunctions.jets import LogPsi


class States(NamedTuple):
    """psi_k = sign exp(log) value_k: a factor (B,) that all states share, and values (B, S)."""

    sign: Tensor
    log: Tensor
    values: Tensor

    def times(self, log: Tensor) -> States:
        """Multiply all states by a positive factor, given by its logarithm (B,)."""
        return self._replace(log=self.log + log)


class StateJets(NamedTuple):
    """`States` with derivatives: those of the shared factor f (``LogPsi``), and jets (B, 3N + 2, S) of the values.

    The jets have 3N slopes, the Laplacian, then the value, as in ``Jet``. psi_k may vanish: nothing is divided by it.
    """

    factor: LogPsi
    data: Tensor

    def laplacians(self) -> Tensor:
        """(lap psi_k) / f (B, S) = lap t_k + 2 grad ln f . grad t_k + t_k (lap ln f + |grad ln f|^2), float64."""
        t, gradient = self.data.double(), self.factor.gradient.double()
        own = self.factor.laplacian.double() + gradient.square().sum(-1)
        cross = (gradient.unsqueeze(-1) * t[:, :-2]).sum(1)
        return t[:, -2] + 2 * cross + t[:, -1] * own.unsqueeze(-1)

    def of_one(self) -> LogPsi:
        """log|psi| of the first state, with gradient and Laplacian."""
        factor, rows = self.factor, self.data[..., 0]
        value, gradient = rows[:, -1], rows[:, :-2] / rows[:, -1:]
        laplacian = rows[:, -2] / value - gradient.square().sum(1)
        return LogPsi(
            factor.sign * value.sign(),
            factor.log + value.abs().log(),
            factor.gradient + gradient,
            factor.laplacian + laplacian,
        )
