"""AdamW with learning rates by plateaus or along a cosine, and the running mean of the parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from fusion.errors import InputError
from fusion.potentials.training.settings import Settings

_BETTER = 1e-4  # relative decrease of the validation loss that counts as an improvement


def trained(model: nn.Module, settings: Settings) -> dict[str, float]:
    """Return the learning-rate factors of the trained parameters by name; switch off the gradients of all others.

    Raises InputError for a pattern that matches no parameter, or if no parameter remains to be trained.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in (*settings.frozen, *settings.rates):
        if not any(fnmatchcase(name, pattern) for name in names):
            shown = ", ".join(names[:3])
            raise InputError(
                f"no parameter of the model is called {pattern!r}; it has {shown}, ... (* matches anything)"
            )
    factors: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        factor = 1.0 if parameter.requires_grad else 0.0
        for pattern, rate in settings.rates.items():
            factor *= rate if fnmatchcase(name, pattern) else 1.0
        if factor == 0.0 or any(fnmatchcase(name, pattern) for pattern in settings.frozen):
            parameter.requires_grad_(False)
        else:
            factors[name] = factor
    if not factors:
        raise InputError("method.training.frozen and rates leave no parameter to train")
    return factors


class Descent:
    """Steps of AdamW on the trained parameters of a model, with the state between the steps.

    Loshchilov, Hutter, ICLR 2019 (AdamW). `members` is the number of networks along the first axis of every parameter;
    the gradient of each is clipped separately. It is 1 if the parameters belong to all networks.
    """

    def __init__(self, model: nn.Module, settings: Settings, steps: int, members: int) -> None:
        factors = trained(model, settings)
        named = dict(model.named_parameters())
        self.settings, self.steps, self.members = settings, steps, members
        self.parameters = [named[name] for name in factors]
        groups: dict[float, list[nn.Parameter]] = {}
        for name, factor in factors.items():
            groups.setdefault(factor, []).append(named[name])
        self.adam = torch.optim.AdamW(
            [{"params": parameters, "factor": factor} for factor, parameters in groups.items()],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.mean = [parameter.detach().clone() for parameter in self.parameters] if settings.average else []
        self.best: list[Tensor] = []
        self.best_score, self.scale, self.done = math.inf, 1.0, 0
        self.waited = self.since_best = 0

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        settings = self.settings
        if settings.final_learning_rate is None:
            return settings.learning_rate * self.scale
        turn = 0.5 * (1.0 + math.cos(math.pi * min(1.0, self.done / self.steps)))
        return settings.final_learning_rate + (settings.learning_rate - settings.final_learning_rate) * turn

    @property
    def over(self) -> bool:
        """True when a stopping rule holds."""
        settings = self.settings
        waited = settings.patience is not None and self.since_best >= settings.patience
        return waited or (settings.final_learning_rate is None and self.rate < settings.plateau.stop_below)

    def clear(self) -> None:
        """Set all gradients to zero."""
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        torch._foreach_zero_([parameter.grad for parameter in self.parameters if parameter.grad is not None])

    @torch.no_grad()
    def step(self) -> None:
        """Make one step along the parameters' current gradients and update the running mean."""
        if self.settings.clip is not None:
            self._clip(self.settings.clip)
        for group in self.adam.param_groups:
            group["lr"] = self.rate * group["factor"]
        self.adam.step()
        self.done += 1
        if self.mean:
            decay = min(self.settings.average, (1.0 + self.done) / (10.0 + self.done))
            torch._foreach_lerp_(self.mean, [parameter.detach() for parameter in self.parameters], 1.0 - decay)

    def _clip(self, limit: float) -> None:
        """Shorten the gradients of each member to `limit`."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        if self.members == 1:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, limit, torch.nn.utils.get_total_norm(gradients))
            return
        norms = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients]).sum(0).sqrt()
        factors = (limit / norms.clamp(min=1e-30)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the model the mean parameters inside the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for index, mean in enumerate(self.mean):
            parameter = self.parameters[index]
            self.mean[index], parameter.data = parameter.data, mean

    def judge(self, score: float) -> bool:
        """Record a validation loss; return True if it is the best so far. Call it inside `averaged`."""
        better = score < self.best_score * (1.0 - _BETTER)
        if better:
            self.best_score = score
            self.best = [parameter.detach().clone() for parameter in self.parameters]
            self.waited = self.since_best = 0
            return True
        self.waited += 1
        self.since_best += 1
        if self.waited >= self.settings.plateau.patience:
            self.waited = 0
            self.scale *= self.settings.plateau.factor
        return False

    @torch.no_grad()
    def keep_best(self) -> None:
        """Give the model the parameters with the lowest validation loss."""
        for parameter, best in zip(self.parameters, self.best, strict=False):
            parameter.copy_(best)

    @torch.no_grad()
    def keep_mean(self) -> None:
        """Give the model the mean parameters."""
        for parameter, mean in zip(self.parameters, self.mean, strict=False):
            parameter.copy_(mean)

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        names = ("best_score", "scale", "done", "waited", "since_best")
        numbers = {name: getattr(self, name) for name in names}
        return {"adam": self.adam.state_dict(), "mean": self.mean, "best": self.best, **numbers}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.adam.load_state_dict(state["adam"])
        self.mean, self.best = list(state["mean"]), list(state["best"])
        self.follow()
        for name in ("best_score", "scale", "done", "waited", "since_best"):
            setattr(self, name, state[name])

    def follow(self) -> None:
        """Move the state to the device of the parameters; call it after the model has moved."""
        self.adam.load_state_dict(self.adam.state_dict())  # places every tensor beside its parameter
        device = self.parameters[0].device
        self.mean = [tensor.to(device) for tensor in self.mean]
        self.best = [tensor.to(device) for tensor in self.best]
