"""Fitting a potential to labelled structures, as a LightningModule."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from fusion.datasets.batches import epoch_batches
from fusion.errors import CalculationError
from fusion.parallel.collectives import rank, sum_over_ranks, world_size
from fusion.potentials.training.descent import Descent
from fusion.potentials.training.loss import Counts, Weights, loss, steepened
from fusion.potentials.training.passes import Passes
from fusion.potentials.training.predictions import Errors, errors, predict
from fusion.potentials.training.settings import LABELS, Settings
from fusion.potentials.training.targets import Labels
from fusion.runs import metrics

VALIDATION_BATCH = 128
_WARM = 3  # first steps of a process, left out of the timing because kernels are still compiled


class Fitting(pl.LightningModule):
    """Minimise the loss of the labelled structures over batches drawn without repetition in each epoch.

    The batches depend on seed and epoch only, so a resumed run draws the same ones. The structures of a batch are
    distributed over the ranks and the gradients summed, which gives the gradient of a single process. At the end the
    model has the parameters with the lowest validation loss; without validation structures, the mean parameters.

    Args:
        model: the trained model.
        passes: evaluates and differentiates the model, see `passes`.
        labels: labels of all structures.
        training, validation: indices of structures.
        members: number of networks of an ensemble, trained together.
        settings: settings of the training.
        seed: seed of the order of the structures.
        identity: values that a checkpoint must agree with.
    """

    phase = "training"

    def __init__(
        self,
        model: nn.Module,
        passes: Passes,
        labels: Labels,
        training: np.ndarray,
        validation: np.ndarray,
        members: int,
        settings: Settings,
        seed: int,
        identity: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.passes, self.labels = model, passes, labels
        self.training_set, self.validation_set, self.members = training, validation, members
        self.settings, self.seed, self.identity = settings, seed, dict(identity)
        self.per_epoch = -(-len(training) // settings.batch)
        self.total = settings.epochs * self.per_epoch
        self.descent = Descent(model, settings, self.total, _stacked(model, members))
        self.sizes = np.diff(labels.offsets)
        self.shares = np.full(len(self.sizes), -1)
        self.shares[training] = np.random.default_rng([seed, 22]).permutation(len(training)) % members
        self._epoch: tuple[int, list[np.ndarray]] = (-1, [])
        self.finished = False
        self.losses: list[float] = []
        self.shown: Errors | None = None
        self.cpu_s, self.seen, self._steps = 0.0, 0, 0
        self._began: float | None = None

    # -- what the progress bar shows -------------------------------------------------------------------------------
    @property
    def phase_step(self) -> int:
        """Number of finished epochs."""
        return self.descent.done // self.per_epoch

    @property
    def phase_total(self) -> int:
        """Largest number of epochs; the number of finished epochs once the training has ended."""
        return self.phase_step if self.finished else self.settings.epochs

    @property
    def phase_text(self) -> str:
        """Errors of the last validation and the learning rate."""
        if self.shown is None:
            return ""
        return "  ".join([*self.shown.texts(), f"rate {self.descent.rate:.1e}"])

    # -- Lightning's hooks -----------------------------------------------------------------------------------------
    def configure_optimizers(self) -> None:
        """Return None: `Descent` makes the steps."""

    def train_dataloader(self) -> _Steps:
        return _Steps(self)

    def on_train_start(self) -> None:
        self.descent.follow()  # Lightning moves the model after it has read a checkpoint

    @torch.no_grad()
    def training_step(self, batch: int, batch_idx: int) -> None:
        if self.finished:  # Lightning requests one batch more than it starts
            return
        if self._began is None and self._steps >= _WARM:
            self._began = time.process_time()
        indices, fraction = self._drawn()
        self.losses.append(self._step(indices, fraction))
        self._steps += 1
        if self._began is not None:
            self.seen += len(indices[rank() :: world_size()])
        if self.descent.done % self.per_epoch == 0:
            self._count_time()
            metrics.log(self.trainer, self.end_epoch(), self.descent.done)

    def _count_time(self) -> None:
        """Add the CPU time since the last call. Reading the clock at every step would cost as much as a small step."""
        if self._began is not None:
            self.cpu_s += time.process_time() - self._began
            self._began = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._count_time()
        checkpoint["fitting"] = {
            "identity": self.identity,
            "finished": self.finished,
            "losses": self.losses,
            "shown": None if self.shown is None else self.shown.finite(),
            "descent": self.descent.state(),
            "throughput": [self.cpu_s, self.seen],
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint.pop("loops", None)  # `descent` counts the steps
        state = checkpoint["fitting"]
        self.finished, self.losses = bool(state["finished"]), list(state["losses"])
        self.shown = None if state["shown"] is None else Errors(**state["shown"])
        self.cpu_s, self.seen = state["throughput"]
        self.descent.restore(state["descent"])

    # -- one step --------------------------------------------------------------------------------------------------
    def _drawn(self) -> tuple[np.ndarray, float]:
        """Indices of this step's structures on all ranks, and the finished fraction of the training."""
        epoch, step = divmod(self.descent.done, self.per_epoch)
        if self._epoch[0] != epoch:
            batches = epoch_batches(self.sizes, self.training_set, self.settings.batch, self.seed, epoch)
            self._epoch = epoch, batches
        return self._epoch[1][step], self.descent.done / self.total

    def _step(self, indices: np.ndarray, fraction: float) -> float:
        """Make one step on the structures `indices`; return the members' mean loss."""
        weights = self._weights(fraction)
        mine = indices[rank() :: world_size()]
        counts = Counts.of(self.labels, indices, self._used(indices))
        self.descent.clear()
        value = torch.zeros(self.members, dtype=torch.float64, device=self.device)
        if len(mine):
            self._sow(_seed(self.seed, self.descent.done))
            forces = weights.forces > 0 and self.labels.forces is not None
            dipoles = weights.dipole > 0 and self.labels.dipole is not None
            predicted, backward = self.passes(mine, forces, weights.stress > 0, True, dipoles)
            batch_loss = loss(predicted, self.labels.batch(mine, self.device), weights, counts, self._used(mine))
            value = batch_loss.value
        value = sum_over_ranks(value)
        if len(mine):
            assert backward is not None
            tau = self.settings.exponential
            backward(batch_loss.by if tau is None else steepened(batch_loss.by, value, tau))
        mean = float(value.mean())
        if not math.isfinite(mean):
            if self.descent.done == 0:
                raise CalculationError(
                    "the loss is not finite before the first step: the model's forward is not finite"
                )
            raise CalculationError(
                f"the loss is not finite in step {self.descent.done + 1}; try a smaller "
                "method.training.learning_rate, or method.training.clip=10"
            )
        self._add_up()
        self.descent.step()
        return mean

    def _sow(self, seed: int) -> None:
        """Seed models that draw random numbers in training. torch.manual_seed would look for all devices each time."""
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _used(self, indices: np.ndarray) -> Tensor:
        """Mask (M, B), True where a member learns from a structure."""
        used = torch.ones(self.members, len(indices), dtype=torch.bool, device=self.device)
        if self.settings.leave_out and self.members > 1:
            share = torch.from_numpy(self.shares[indices]).to(self.device)
            used = share[None] != torch.arange(self.members, device=self.device)[:, None]
        return used

    def _add_up(self) -> None:
        """Sum the gradients over the ranks, in one message."""
        if world_size() == 1:
            return
        gradients = [parameter.grad for parameter in self.descent.parameters if parameter.grad is not None]
        total = sum_over_ranks(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, total.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def _weights(self, fraction: float) -> Weights:
        return Weights(*(getattr(self.settings, name).at(fraction) for name in LABELS))

    # -- validation ------------------------------------------------------------------------------------------------
    def end_epoch(self) -> dict[str, Any]:
        """Validate and apply the stopping rules; return the row of metrics.csv."""
        epoch = self.descent.done // self.per_epoch
        row: dict[str, Any] = {"phase": "train", "epoch_done": epoch, "loss": sum(self.losses) / len(self.losses)}
        row["learning_rate"] = self.descent.rate
        self.losses = []
        last = epoch == self.settings.epochs
        if len(self.validation_set) and (last or epoch % self.settings.validate_every == 0):
            with self.descent.averaged():
                self.shown = self._validated()
                self.descent.judge(self.shown.loss)
            row |= {f"validation_{name}": value for name, value in self.shown.finite().items()}
        self.finished = last or self.descent.over
        if self.finished:
            if len(self.validation_set):
                self.descent.keep_best()
            else:
                self.descent.keep_mean()
        return row

    def _validated(self) -> Errors:
        final = Weights(*(getattr(self.settings, name).values[-1] for name in LABELS))
        size = VALIDATION_BATCH
        predictions = predict(self.passes, self.labels, self.validation_set, self.members, size, self.device)
        return errors(predictions, self.labels, final)


def _seed(seed: int, step: int) -> int:
    """Seed of one step: a resumed run draws the same numbers as an uninterrupted one."""
    return int(np.random.default_rng([seed, step, rank()]).integers(2**62))


def _stacked(model: nn.Module, members: int) -> int:
    """Return `members` if each has a row of every trained parameter, so that each can be clipped alone; else 1."""
    rows = [p.shape[0] if p.dim() else 0 for p in model.parameters() if p.requires_grad]
    return members if rows and all(count == members for count in rows) else 1


class _Steps:
    """Remaining steps of the training. It has no length, so that Lightning does not skip steps of a resumed run."""

    def __init__(self, module: Fitting) -> None:
        self.module = module

    def __iter__(self) -> Iterator[int]:
        while not self.module.finished:
            yield self.module.descent.done
