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
_WARM = 3  # steps of a process whose time is not that of the work: kernels are compiled


class Fitting(pl.LightningModule):
    """Descent on the errors of what has labels, over batches drawn without repetition in each epoch.

    What is drawn depends on seed and epoch only, so that a run goes on from a checkpoint as if it had not stopped. The
    structures of a batch are shared out over the ranks and their gradients added up: that of one process. At the end
    the model has the parameters that were best in a validation (those of the last step without structures for it).

    Args:
        model: what is trained.
        passes: how it is evaluated and differentiated, see `passes`.
        labels: of all structures.
        training, validation: indices of structures.
        members: networks of an ensemble, which learn side by side.
        settings: of the training.
        seed: of the order of the structures.
        identity: what a checkpoint has to agree with.
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
        """Epochs done."""
        return self.descent.done // self.per_epoch

    @property
    def phase_total(self) -> int:
        """Epochs to do at most; those done, once a stopping rule has ended the training."""
        return self.phase_step if self.finished else self.settings.epochs

    @property
    def phase_text(self) -> str:
        """Errors in the last validation."""
        found = self.shown
        if found is None:
            return ""
        return "  ".join([*found.told(), f"rate {self.descent.rate:.1e}"])

    # -- Lightning's hooks -----------------------------------------------------------------------------------------
    def configure_optimizers(self) -> None:
        """None: steps are made by `Descent`."""

    def train_dataloader(self) -> _Steps:
        return _Steps(self)

    @torch.no_grad()
    def training_step(self, batch: int, batch_idx: int) -> None:
        if self.finished:  # Lightning asks for one batch more than it has begun
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
        """Of the steps since the last time; not of each, for asking takes as long as a small step on some systems."""
        if self._began is not None:
            self.cpu_s += time.process_time() - self._began
            self._began = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._count_time()
        checkpoint["fitting"] = {
            "identity": self.identity,
            "finished": self.finished,
            "losses": self.losses,
            "shown": None if self.shown is None else self.shown.known(),
            "descent": self.descent.state(),
            "throughput": [self.cpu_s, self.seen],
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint.pop("loops", None)  # steps are counted by `descent`
        state = checkpoint["fitting"]
        self.finished, self.losses = bool(state["finished"]), list(state["losses"])
        self.shown = None if state["shown"] is None else Errors(**state["shown"])
        self.cpu_s, self.seen = state["throughput"]
        self.descent.restore(state["descent"])

    # -- one step --------------------------------------------------------------------------------------------------
    def _drawn(self) -> tuple[np.ndarray, float]:
        """Indices of this step's structures, those of all ranks, and the fraction of the training that is done."""
        epoch, step = divmod(self.descent.done, self.per_epoch)
        if self._epoch[0] != epoch:
            found = epoch_batches(self.sizes, self.training_set, self.settings.batch, self.seed, epoch)
            self._epoch = epoch, found
        return self._epoch[1][step], self.descent.done / self.total

    def _step(self, indices: np.ndarray, fraction: float) -> float:
        """The mean of the members' losses."""
        weights = self._weights(fraction)
        mine = indices[rank() :: world_size()]
        counts = Counts.of(self.labels, indices, self._used(indices))
        self.descent.clear()
        value = torch.zeros(self.members, dtype=torch.float64, device=self.device)
        if len(mine):
            self._sow(_seed(self.seed, self.descent.done))
            forces = weights.forces > 0 and self.labels.forces is not None
            dipoles = weights.dipole > 0 and self.labels.dipole is not None
            found, back = self.passes(mine, forces, weights.stress > 0, True, dipoles)
            result = loss(found, self.labels.batch(mine, self.device), weights, counts, self._used(mine))
            value = result.value
        value = sum_over_ranks(value)
        if len(mine):
            assert back is not None
            tau = self.settings.exponential
            back(result.by if tau is None else steepened(result.by, value, tau))
        mean = float(value.mean())
        if not math.isfinite(mean):
            if self.descent.done == 0:
                raise CalculationError("the loss is not a finite number before any training: what forward gives is not")
            raise CalculationError(
                f"the loss is not a finite number in step {self.descent.done + 1}; try a smaller "
                "method.training.learning_rate, or method.training.clip=10"
            )
        self._add_up()
        self.descent.step()
        return mean

    def _sow(self, seed: int) -> None:
        """For models that draw while they learn; torch.manual_seed looks for every kind of device at each call."""
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _used(self, indices: np.ndarray) -> Tensor:
        """(M, B): whether a member learns from a structure."""
        used = torch.ones(self.members, len(indices), dtype=torch.bool, device=self.device)
        if self.settings.leave_out and self.members > 1:
            share = torch.from_numpy(self.shares[indices]).to(self.device)
            used = share[None] != torch.arange(self.members, device=self.device)[:, None]
        return used

    def _add_up(self) -> None:
        """Gradients over ranks, in one message."""
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
        """Validate, judge, and stop where a rule says so; the row of metrics.csv."""
        epoch = self.descent.done // self.per_epoch
        row: dict[str, Any] = {"phase": "train", "epoch_done": epoch, "loss": sum(self.losses) / len(self.losses)}
        row["learning_rate"] = self.descent.rate
        self.losses = []
        last = epoch == self.settings.epochs
        if len(self.validation_set) and (last or epoch % self.settings.validate_every == 0):
            with self.descent.averaged():
                self.shown = self._validated()
                self.descent.judge(self.shown.loss)
            row |= {f"validation_{name}": value for name, value in self.shown.known().items()}
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
        found = predict(self.passes, self.labels, self.validation_set, self.members, size, self.device)
        return errors(found, self.labels, final)


def _seed(seed: int, step: int) -> int:
    """Of one step: a resumed run draws what the uninterrupted one does."""
    return int(np.random.default_rng([seed, step, rank()]).integers(2**62))


def _stacked(model: nn.Module, members: int) -> int:
    """`members` if each has a row of every trained parameter, so that gradients can be clipped one by one; else 1."""
    rows = [p.shape[0] if p.dim() else 0 for p in model.parameters() if p.requires_grad]
    return members if rows and all(count == members for count in rows) else 1


class _Steps:
    """The steps that are left, until one finishes; no length, so that a resumed run starts where it stopped."""

    def __init__(self, module: Fitting) -> None:
        self.module = module

    def __iter__(self) -> Iterator[int]:
        while not self.module.finished:
            yield self.module.descent.done
