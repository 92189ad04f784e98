"""SPRING: stochastic reconfiguration solved in the space of walkers, with the previous step projected in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fusion.config.checks import check_number
from fusion.errors import InputError
from fusion.parallel.collectives import from_first_rank, own_rows
from fusion.wavefunctions.ansatz import sets_of
from fusion.wavefunctions.optimisers import Schedule
from fusion.wavefunctions.scores import ScoreRecorder, Step


class Spring:
    """Subsampled projected-increment natural gradient (Goldshlager, Abrahamsen, Lin 2024, arXiv 2401.10190, eq. 34).

    With centred scores Obar / sqrt(B), T = Obar Obar^T, deviations e / sqrt(B) and previous direction p,

        d = Obar^T (T + lambda 1)^-1 (e - mu Obar p) + mu p,    theta -= eta d.

    The damping is relative, lambda = damping * eta * tr(T) / B: the scale of T differs by orders of magnitude between
    systems and during a run, and smaller steps average over more walkers, so that they need less regularisation.
    Directions follow the noise of the walkers, whose share of a step grows with eta and with the variance V of the
    local energies: eta is at most `noise` / V, and mu at most 1 - eta, so that small steps average over more of them.
    At the start of a run, V is large because psi is wrong, and such steps would be too small to repair it: eta is at
    least `least`, which falls as 1 / t. It must stay below 2 / w for all excitation energies w that psi can resolve,
    about Z^2 in an inner shell: such steps are those of an imaginary time, and do not converge beyond.
    The step is bounded in the Fisher norm, eta |Obar d| <= sqrt(max_norm): |Obar d| is the change of log|psi| over the
    walkers; unlike |d|, its bound has the same meaning for every network.
    Gram matrix and solve are in float64.

    Args:
        ansatz: the wavefunction whose parameters are optimised.
        chunk: walkers differentiated at a time.
        learning_rate: eta as a function of the iteration.
        damping: damping relative to the mean eigenvalue of T and to the learning rate.
        momentum: largest mu, in [0, 1).
        noise: bound of eta V, hartree, divided by the number of electron sets of a walker, to whose sum V belongs; None
            for no bound.
        least: smallest eta with `noise`, as a function of the iteration; None for zero.
        max_norm: bound of the squared Fisher norm of a step.

    Raises:
        InputError: a setting is out of range.
    """

    def __init__(
        self,
        ansatz: nn.Module,
        chunk: int,
        learning_rate: Schedule,
        damping: float,
        momentum: float,
        max_norm: float,
        noise: float | None = None,
        least: Schedule | None = None,
    ) -> None:
        check_number("method.optimiser.damping", damping)
        check_number("method.optimiser.max_norm", max_norm, positive=True)
        if noise is not None:
            check_number("method.optimiser.noise", noise, positive=True)
        check_number("method.optimiser.momentum", momentum)
        if momentum >= 1:
            raise InputError(f"method.optimiser.momentum must be below 1, not {momentum!r}")
        self.learning_rate, self.damping, self.momentum, self.max_norm = learning_rate, damping, momentum, max_norm
        self.noise, self.least = None if noise is None else noise / sets_of(ansatz), least
        self.caution = 1.0
        self.previous: Step = {}
        self.scores = ScoreRecorder(ansatz, chunk)

    def rate(self, iteration: int, deviation: Tensor) -> float:
        """eta of a step: the scheduled rate, bounded by the variance V of the clipped local energies."""
        rate = self.learning_rate(iteration)
        if self.noise is None:
            return rate
        bounded = min(rate, self.noise / max(float(deviation.square().mean()), 1e-300))
        return bounded if self.least is None else max(bounded, self.least(iteration))

    def step(self, electrons: Tensor, deviation: Tensor, iteration: int) -> Step:
        """Return the change of the parameters, see ``Optimiser.step``."""
        scores = self.scores(electrons)
        root = len(deviation) ** 0.5
        gram = _centred_(_centred_(scores.gram()).T).div_(len(deviation))
        rate = self.rate(iteration, deviation)
        mu = self.momentum if self.noise is None else min(self.momentum, 1 - rate)
        momentum = {name: mu * value for name, value in self.previous.items()}
        carried = _centred(scores.apply(momentum).double()) / root if momentum else torch.zeros_like(deviation)
        damping = self.caution * self.damping * rate * gram.trace() / len(deviation)
        u = from_first_rank(solve_damped(gram, damping, deviation / root - carried))
        direction = scores.transpose_apply(own_rows(_centred(u) / root).to(electrons.dtype))
        direction = {name: value + momentum.get(name, 0.0) for name, value in direction.items()}
        self.previous = direction
        change = float((gram @ u + carried).square().sum())
        rate *= min(1.0, (self.max_norm / max(rate * rate * change, 1e-300)) ** 0.5)
        return {name: -rate * value for name, value in direction.items()}

    def reset(self) -> None:
        self.previous = {}

    def state_dict(self) -> dict[str, Any]:
        return {"caution": self.caution, "previous": self.previous, **self.scores.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.caution, self.previous = state["caution"], state["previous"]
        self.scores.load_state_dict(state)


def solve_damped(matrix: Tensor, damping: Tensor, rhs: Tensor) -> Tensor:
    """(matrix + damping 1)^-1 rhs for a symmetric positive semidefinite float64 matrix.

    Rounding can leave slightly negative eigenvalues. If Cholesky's factorisation fails because of them, the spectrum is
    clamped at zero instead.
    """
    shifted = _symmetric(matrix)
    shifted.diagonal().add_(damping)
    factor, info = torch.linalg.cholesky_ex(shifted)
    if int(info) == 0:
        return torch.cholesky_solve(rhs.unsqueeze(1), factor).squeeze(1)
    if not bool(torch.isfinite(shifted).all()):
        return torch.full_like(rhs, torch.nan)
    del shifted, factor  # the eigenvectors need their memory
    values, vectors = torch.linalg.eigh(_symmetric(matrix))
    return vectors @ ((vectors.T @ rhs) / (values.clamp(min=0.0) + damping))


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.T).mul_(0.5)


def _centred(rows: Tensor) -> Tensor:
    return rows - rows.mean(0)


def _centred_(rows: Tensor) -> Tensor:
    """Subtract the mean of the rows in place."""
    return rows.sub_(rows.mean(0))
