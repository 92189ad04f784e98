"""K-FAC: natural gradient with a Kronecker-factored Fisher matrix, layer by layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fusion.config.checks import check_number
from fusion.errors import InputError
from fusion.parallel.collectives import mean_over_ranks, own_rows, sum_over_ranks
from fusion.wavefunctions.optimisers import Schedule
from fusion.wavefunctions.scores import Block, LinearScores, RowScores, ScoreRecorder, Step


class Kfac:
    """Kronecker-factored approximate curvature (Martens & Grosse 2015; for wavefunctions Pfau et al. 2020, appendix).

    A linear layer applied R times per walker with inputs a (bias appended) and output derivatives g has
    F ~ 2 R <a a^T> x <g g^T>, averages over walkers and repeats, exponentially averaged over iterations; F is damped by
    factored Tikhonov damping. Other parameters have their full Fisher block, or its diagonal when it is large.
    The step is bounded by eta^2 g^T F^-1 g <= max_norm. Factorisations are in float64.

    Args:
        ansatz: the wavefunction whose parameters are optimised.
        chunk: walkers differentiated at a time.
        learning_rate: eta as a function of the iteration.
        damping: constant added to F.
        decay: weight of the past in the exponential averages.
        max_norm: bound of the squared norm of a step.
        full_block: largest parameter that gets a full block.

    Raises:
        InputError: a setting is out of range.
    """

    def __init__(
        self,
        ansatz: nn.Module,
        chunk: int,
        learning_rate: Schedule,
        damping: float,
        decay: float,
        max_norm: float,
        full_block: int = 512,
    ) -> None:
        check_number("method.optimiser.damping", damping)
        check_number("method.optimiser.max_norm", max_norm, positive=True)
        check_number("method.optimiser.decay", decay)
        if decay >= 1:
            raise InputError(f"method.optimiser.decay must be below 1, not {decay!r}")
        self.learning_rate, self.damping, self.decay, self.max_norm = learning_rate, damping, decay, max_norm
        self.full_block = full_block
        self.caution = 1.0
        self.averages: dict[str, Tensor] = {}
        self.weight = 0.0
        self.scores = ScoreRecorder(ansatz, chunk, pairs=False)

    def rate(self, iteration: int, deviation: Tensor) -> float:
        return self.learning_rate(iteration)

    def step(self, electrons: Tensor, deviation: Tensor, iteration: int) -> Step:
        """Return the change of the parameters, see ``Optimiser.step``."""
        weights = own_rows(deviation / len(deviation)).to(electrons.dtype)
        gradient: Step = {}
        curvature: dict[str, Tensor] = {}
        for rows, blocks in self.scores(electrons).in_turn():
            for block in blocks:
                _add(gradient, block.transpose_apply(weights[rows]))
                _add(curvature, self._curvature(block))
        gradient = {name: sum_over_ranks(value) for name, value in gradient.items()}
        self.weight = self.decay * self.weight + 1
        direction: Step = {}
        for block in blocks:  # every group has the same layers: those of the last one give their names and sizes
            if isinstance(block, LinearScores):
                direction |= self._linear(block, curvature, len(electrons), gradient)
            else:
                direction |= self._rows(block, curvature, len(electrons), gradient)
        norm = sum(float((gradient[name] * value).sum()) for name, value in direction.items())
        rate = self.rate(iteration, deviation)
        rate *= min(1.0, (self.max_norm / max(rate * rate * norm, 1e-300)) ** 0.5)
        return {name: -rate * value for name, value in direction.items()}

    def reset(self) -> None:
        """Discard curvature that is not finite; there is no momentum to reset."""
        if not all(bool(torch.isfinite(average).all()) for average in self.averages.values()):
            self.averages, self.weight = {}, 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"caution": self.caution, "averages": self.averages, "weight": self.weight, **self.scores.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.caution, self.averages, self.weight = state["caution"], state["averages"], state["weight"]
        self.scores.load_state_dict(state)

    def _average(self, name: str, value: Tensor) -> Tensor:
        """Update the running sum of a factor and return the normalised average."""
        value = mean_over_ranks(value.double())
        self.averages[name] = value + self.decay * self.averages[name] if name in self.averages else value
        return self.averages[name] / self.weight

    def _curvature(self, block: Block) -> dict[str, Tensor]:
        """Sums over walkers, and over the repeats of a linear layer, that make the Fisher block of one layer."""
        if isinstance(block, LinearScores):
            a, g = block.full_inputs().flatten(0, 1), block.outputs.flatten(0, 1)
            return dict(zip(_factors(block), (a.T @ a, g.T @ g), strict=True))
        full = block.rows.shape[1] <= self.full_block
        return {block.name: block.rows.T @ block.rows if full else block.rows.square().sum(0)}

    def _linear(self, block: LinearScores, sums: dict[str, Tensor], walkers: int, gradient: Step) -> Step:
        """Solve (A + pi sqrt(damping))^-1 grad (G + sqrt(damping) / pi)^-1 with pi balancing the factors' sizes."""
        repeats = block.inputs.shape[1]
        by_inputs, by_outputs = (self._average(n, sums[n] / (walkers * repeats)) for n in _factors(block))
        by_outputs = by_outputs * 2 * repeats
        balance = (
            (by_inputs.diagonal().mean() / by_outputs.diagonal().mean().clamp(min=1e-30)).clamp(1e-12, 1e12).sqrt()
        )
        root = (self.caution * self.damping) ** 0.5
        grad = gradient[block.weight].double()
        if block.bias is not None:
            grad = torch.cat((grad, gradient[block.bias].double().unsqueeze(1)), dim=1)
        grad = _solve(by_outputs, root / balance, grad)
        grad = _solve(by_inputs, root * balance, grad.T).T.to(block.inputs.dtype)
        if block.bias is None:
            return {block.weight: grad}
        return {block.weight: grad[:, :-1], block.bias: grad[:, -1]}

    def _rows(self, block: RowScores, sums: dict[str, Tensor], walkers: int, gradient: Step) -> Step:
        damping, grad = self.caution * self.damping, gradient[block.name].double().flatten()
        fisher = self._average(block.name, 2 * sums[block.name] / walkers)
        step = _solve(fisher, damping, grad.unsqueeze(1)).squeeze(1) if fisher.dim() == 2 else grad / (fisher + damping)
        return {block.name: step.view(block.shape).to(block.rows.dtype)}


def _factors(block: LinearScores) -> tuple[str, str]:
    """Names of the two factors of a linear layer's Fisher block, over its inputs and outputs."""
    return block.weight + ".inputs", block.weight + ".outputs"


def _add(total: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    for name, value in values.items():
        total[name] = total[name] + value if name in total else value


def _solve(matrix: Tensor, damping: Tensor | float, rhs: Tensor) -> Tensor:
    shifted = matrix.clone()
    shifted.diagonal().add_(damping)
    factor, info = torch.linalg.cholesky_ex(shifted)
    return torch.cholesky_solve(rhs, factor) if int(info) == 0 else torch.full_like(rhs, torch.nan)
