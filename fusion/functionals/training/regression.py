"""Regression of a functional on labelled densities, as a LightningModule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from fusion.chemistry.units import KCAL_MOL_PER_HARTREE as KCAL
from fusion.errors import CalculationError
from fusion.functionals.features import DensityFeatures
from fusion.functionals.training.dataset import Difference
from fusion.functionals.training.samples import Sample, xc_energy
from fusion.functionals.training.settings import Settings
from fusion.functionals.training.stability import instability
from fusion.parallel.collectives import rank, sum_over_ranks, world_size
from fusion.runs import metrics


class Regression(pl.LightningModule):
    """Minimise errors of energy differences and total energies, and the instability of fixed densities, with Adam.

    One batch is a few differences drawn without repetition from those that are not held out. The ranks share the
    densities that the batch needs; the gradient equals that of one process. The draws depend on seed and step only, so
    that a run resumed from a checkpoint continues as if it had not stopped.

    Args:
        functional: module to train, in the dtype of the samples.
        samples: labelled densities by name.
        differences: energy differences between the samples.
        settings: settings of the training.
        seed: seed of the order of the differences.
        identity: values that must agree with those of a checkpoint.
    """

    def __init__(
        self,
        functional: nn.Module,
        samples: Mapping[str, Sample],
        differences: Sequence[Difference],
        settings: Settings,
        seed: int,
        identity: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.functional, self.settings, self.seed, self.identity = functional, settings, seed, dict(identity)
        self.samples, self.differences = dict(samples), tuple(differences)
        self.trained = [difference for difference in differences if not difference.held_out]
        self.optimiser = torch.optim.Adam(functional.parameters(), lr=settings.learning_rate, foreach=False)
        self.done = 0
        self.loss = self.train_error = self.held_out_error = self.unstable = math.nan

    # -- text of the progress bar ----------------------------------------------------------------------------------
    phase = "training"

    @property
    def phase_step(self) -> int:
        """Number of finished steps."""
        return self.done

    @property
    def phase_total(self) -> int:
        """Number of all steps."""
        return self.settings.steps

    @property
    def phase_text(self) -> str:
        """Loss and mean errors of the differences."""
        if math.isnan(self.loss):
            return ""
        text = f"loss {self.loss:.3g}"
        if not math.isnan(self.train_error):
            text += f"  error {self.train_error:.2f} kcal/mol"
        return text if math.isnan(self.held_out_error) else f"{text}, held out {self.held_out_error:.2f}"

    # -- Lightning's hooks -----------------------------------------------------------------------------------------
    def configure_optimizers(self) -> None:
        """Return None: `training_step` assembles gradients and updates parameters itself."""

    def train_dataloader(self) -> _Steps:
        return _Steps(self)

    def on_train_start(self) -> None:
        # Lightning moves the functional after it has read a checkpoint; this places the state beside the parameters.
        self.optimiser.load_state_dict(self.optimiser.state_dict())

    @torch.no_grad()
    def training_step(self, batch: int, batch_idx: int) -> None:
        chosen, unstable = self._drawn()
        with torch.enable_grad():
            row = self._step(chosen, unstable)
        self.done += 1
        if self.done % self.settings.validate_every == 0 or self.done == self.settings.steps:
            errors = self.errors()
            self.train_error = _mean(errors[d.name] for d in self.trained)
            self.held_out_error = _mean(errors[d.name] for d in self.differences if d.held_out)
            row |= {"train_mae_kcal_mol": self.train_error, "held_out_mae_kcal_mol": self.held_out_error}
        metrics.log(self.trainer, {"phase": "train", **row}, self.done)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["regression"] = {
            "identity": self.identity,
            "done": self.done,
            "optimiser": self.optimiser.state_dict(),
            "errors": [self.train_error, self.held_out_error],
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint.pop("loops", None)  # this module counts the steps
        state = checkpoint["regression"]
        self.done = int(state["done"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.train_error, self.held_out_error = state["errors"]

    # -- energies --------------------------------------------------------------------------------------------------
    @torch.no_grad()
    def deviations(self, names: Sequence[str] | None = None) -> dict[str, float]:
        """Energy at the fixed density minus the reference, hartree, of samples by name; on all ranks."""
        names = list(self.samples) if names is None else list(names)
        deviations = torch.zeros(len(names), dtype=torch.float64, device=self.device)
        for index in range(rank(), len(names), world_size()):
            deviations[index] = self._deviation(names[index]).double()
        return dict(zip(names, sum_over_ranks(deviations).tolist(), strict=True))

    def errors(self) -> dict[str, float]:
        """Errors of all differences, kcal/mol."""
        deviations = self.deviations()
        return {
            d.name: KCAL * sum(c * deviations[name] for name, c in d.coefficients.items()) for d in self.differences
        }

    def _deviation(self, name: str) -> Tensor:
        return xc_energy(self.functional, self._features(name)) - self.samples[name].target

    def _features(self, name: str) -> DensityFeatures:
        return self.samples[name].features.map(lambda tensor: tensor.to(self.device))

    def _drawn(self) -> tuple[list[Difference], list[str]]:
        """Draw the differences of this step, and the densities for the stability term."""
        size = min(self.settings.batch, len(self.trained))
        per_epoch = max(1, len(self.trained) // size)
        epoch, place = divmod(self.done, per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.trained))
        chosen = [self.trained[index] for index in order[place * size : (place + 1) * size]]
        if self.settings.stability.weight == 0:
            return chosen, []
        first = [next(iter(difference.coefficients)) for difference in chosen]
        return chosen, first[: self.settings.stability.systems]

    def _step(self, chosen: Sequence[Difference], unstable: Sequence[str]) -> dict[str, Any]:
        """Do one step of Adam. By the chain rule, each rank differentiates only the energies of its own densities."""
        names = list(dict.fromkeys(name for difference in chosen for name in difference.coefficients))
        mine = range(rank(), len(names), world_size())
        own = [self._deviation(names[index]) for index in mine]
        values = torch.zeros(len(names), dtype=torch.float64, device=self.device)
        for index, deviation in zip(mine, own, strict=True):
            values[index] = deviation.detach().double()
        values = sum_over_ranks(values).requires_grad_()
        loss, error = self._loss(dict(zip(names, values, strict=True)), chosen)
        outer = torch.autograd.grad(loss, values)[0]
        terms = [outer[index].to(deviation.dtype) * deviation for index, deviation in zip(mine, own, strict=True)]
        penalty = torch.zeros((), dtype=torch.float64, device=self.device)
        changes = torch.zeros(len(unstable), dtype=torch.float64, device=self.device)
        for index in range(rank(), len(unstable), world_size()):
            name, gap = unstable[index], self.settings.stability.gap
            orbitals = self.samples[name].orbitals(self.device)
            change = KCAL * instability(self.functional, self._features(name), orbitals, gap)
            changes[index] = change.detach().double()
            limited = change.clamp(max=self.settings.stability.limit)
            share = self.settings.stability.weight * self._squared(limited.double()) / len(unstable)
            penalty = penalty + share
        parameters = list(self.functional.parameters())
        objective = penalty + sum(term.double() for term in terms)
        gradients = self._gradients(objective, parameters)
        loss = loss.detach() + sum_over_ranks(penalty.detach())
        self._update(parameters, gradients, loss)
        self.loss = float(loss)
        rate = self.optimiser.param_groups[0]["lr"]
        row: dict[str, Any] = {"loss": self.loss, "batch_mae_kcal_mol": error, "learning_rate": rate}
        if unstable:
            row["instability_kcal_mol"] = float(sum_over_ranks(changes).mean())
        return row

    def _loss(self, deviations: Mapping[str, Tensor], chosen: Sequence[Difference]) -> tuple[Tensor, float]:
        """Weighted mean of squared errors, (kcal/mol)^2, and the mean error of the differences in kcal/mol."""
        weights = self.settings.weights
        errors = [KCAL * torch.stack([c * deviations[n] for n, c in d.coefficients.items()]).sum() for d in chosen]
        pairs = zip(chosen, errors, strict=True)
        loss = torch.stack([weights[d.kind] * self._squared(error) for d, error in pairs]).mean()
        totals = torch.stack([self._squared(KCAL * deviation) for deviation in deviations.values()]).mean()
        return loss + weights["total"] * totals, _mean(float(error.detach()) for error in errors)

    def _squared(self, error: Tensor) -> Tensor:
        """error^2, but linear beyond `tail`: large errors in the first steps would dominate Adam's averages."""
        tail = self.settings.tail
        return 2.0 * tail**2 * (torch.sqrt(1.0 + (error / tail) ** 2) - 1.0)

    def _gradients(self, objective: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
        if not objective.requires_grad:  # this rank has no density in this step
            return [sum_over_ranks(torch.zeros_like(parameter)) for parameter in parameters]
        gradients = torch.autograd.grad(objective, parameters, allow_unused=True, materialize_grads=True)
        return [sum_over_ranks(gradient) for gradient in gradients]

    def _update(self, parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor], loss: Tensor) -> None:
        if not torch.isfinite(loss) or not all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
            raise CalculationError(
                f"the loss or its gradient is not a finite number in step {self.done + 1}; try a smaller "
                "method.training.learning_rate or dtype=float64"
            )
        for group in self.optimiser.param_groups:
            group["lr"] = (
                self.settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * self.done / self.settings.steps))
            )
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)


class _Steps:
    """Remaining steps; without a length, so that a resumed run starts where it stopped."""

    def __init__(self, module: Regression) -> None:
        self.module = module

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.module.done, self.module.settings.steps))


def _mean(errors: Any) -> float:
    """Mean absolute value; nan if there is none."""
    values = [abs(error) for error in errors]
    return sum(values) / len(values) if values else math.nan
