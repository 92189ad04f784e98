"""Adam on the energy gradient, a first-order fallback."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fusion.parallel.collectives import own_rows, sum_over_ranks
from fusion.wavefunctions.optimisers import Schedule
from fusion.wavefunctions.scores import Step


class Adam:
    """Adam (Kingma & Ba 2015) on 2 <(E_L - E) d log|psi| / d theta>, through ``torch.optim``.

    Args:
        ansatz: the wavefunction whose parameters are optimised.
        chunk: walkers differentiated at a time.
        learning_rate: rate as a function of the iteration.
        betas: decay of the first and second moments.
    """

    def __init__(self, ansatz: nn.Module, chunk: int, learning_rate: Schedule, betas: tuple[float, float]) -> None:
        self.ansatz, self.chunk, self.learning_rate = ansatz, chunk, learning_rate
        self.parameters = {name: p for name, p in ansatz.named_parameters() if p.requires_grad}
        self.betas = (float(betas[0]), float(betas[1]))
        self.caution = 1.0
        self.reset()

    def rate(self, iteration: int, deviation: Tensor) -> float:
        return self.learning_rate(iteration) / self.caution

    def step(self, electrons: Tensor, deviation: Tensor, iteration: int) -> Step:
        """Return the change of the parameters, see ``Optimiser.step``."""
        parameters = list(self.parameters.values())
        before = [p.detach().clone() for p in parameters]
        for p, grad in zip(parameters, self._gradient(electrons, deviation), strict=True):
            p.grad = grad
        self.adam.param_groups[0]["lr"] = self.rate(iteration, deviation)
        self.adam.step()
        step = {n: p.detach() - previous for (n, p), previous in zip(self.parameters.items(), before, strict=True)}
        for p, previous in zip(parameters, before, strict=True):
            p.data.copy_(previous)
            p.grad = None
        return step

    def reset(self) -> None:
        self.adam = torch.optim.Adam(self.parameters.values(), lr=1.0, betas=self.betas)

    def state_dict(self) -> dict[str, Any]:
        return {"caution": self.caution, "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.caution = state["caution"]
        self.adam.load_state_dict(state["adam"])

    @torch.enable_grad()
    def _gradient(self, electrons: Tensor, deviation: Tensor) -> list[Tensor]:
        parameters = list(self.parameters.values())
        weights = own_rows(2 * deviation / len(deviation)).to(electrons.dtype)
        total = [torch.zeros_like(p) for p in parameters]
        for part, weight in zip(electrons.split(self.chunk), weights.split(self.chunk), strict=True):
            _, log = self.ansatz(part)
            grads = torch.autograd.grad((weight * log).sum(), parameters, allow_unused=True)
            total = [t if g is None else t + g for t, g in zip(total, grads, strict=True)]
        return [sum_over_ranks(t) for t in total]
