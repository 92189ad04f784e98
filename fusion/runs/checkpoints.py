"""Checkpoints that survive a kill at any moment: the callback that writes `checkpoints/last.ckpt`, and the reader."""

from __future__ import annotations

import pickle
import signal
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.plugins.io import TorchCheckpointIO

from fusion.config.checks import check_whole
from fusion.errors import InputError, Stopped
from fusion.files import bounds
from fusion.files.atomic import replacing
from fusion.parallel.collectives import largest_of_ranks
from fusion.runs.layout import CHECKPOINT
from fusion.runs.metrics import MetricsFile
from fusion.runs.signals import StopRequest, accepted
from fusion.runs.state import task_of

_ROWS = "fusion_metrics_rows"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically: the file under the final name is always complete."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        Path(path).parent.mkdir(exist_ok=True)
        with replacing(Path(path)) as file:
            torch.save(checkpoint, file)


class SaveLast(Callback):
    """Saves `checkpoints/last.ckpt` every `every_n_steps` training batches, at the end, and on interruption.

    After Ctrl-C, SIGTERM or SIGHUP all ranks finish the current batch; a second signal stops at once. The callback
    itself counts batches, over the whole run and across restarts, because `global_step` does not advance without an
    optimiser step.
    """

    def __init__(self, every_n_steps: int = 100) -> None:
        check_whole("callbacks.checkpoint.every_n_steps", every_n_steps)
        self.every_n_steps = every_n_steps
        self.batches = 0
        self._inside_batch = False
        self._asked = StopRequest()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._asked = StopRequest()
        if threading.current_thread() is threading.main_thread():
            # Lightning restores the previous handlers.
            for number in accepted():
                signal.signal(number, self._asked)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._inside_batch = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._inside_batch = False
        self.batches += 1
        asked = largest_of_ranks(self._asked.number or signal.SIGTERM * trainer.received_sigterm, pl_module.device)
        if asked or self.batches % self.every_n_steps == 0:
            self._save(trainer)
        if asked:
            raise Stopped(asked)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)
        if self._asked.number:
            raise Stopped(self._asked.number)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        # A run cannot resume from half a step, and other ranks may have ended and cannot take part in saving.
        between = not self._inside_batch and not self._asked.number
        if isinstance(exception, KeyboardInterrupt) and between and trainer.world_size == 1:
            self._save(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.batches = state_dict["batches"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[_ROWS] = {"rows": sum(logger.rows for logger in _metrics(trainer))}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        for logger in _metrics(trainer):
            logger.keep(checkpoint.get(_ROWS, {}).get("rows", 0))

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(Path(trainer.default_root_dir) / CHECKPOINT)


def drop_rows(checkpoint: dict[str, Any], rows: int) -> None:
    """Let a run that resumes from `checkpoint` drop the last `rows` rows of metrics.csv, because it repeats them."""
    if _ROWS in checkpoint:
        checkpoint[_ROWS] = {"rows": max(0, checkpoint[_ROWS]["rows"] - rows)}


def _metrics(trainer: Trainer) -> list[MetricsFile]:
    return [logger for logger in trainer.loggers if isinstance(logger, MetricsFile)]


def trained_state(path: Path, part: str, kind: str, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Read the `part` of a checkpoint that a training resumes from; its `identity` must have these values.

    Raises InputError for a checkpoint of something else than the training of a `kind` of model, or of another training.
    """
    state: dict[str, Any] | None = read(path).get(part)
    if state is None:
        raise InputError(f"{path} is not a checkpoint of a {kind}'s training")
    for key, value in identity.items():
        if state["identity"].get(key) != value:
            raise InputError(f"{path} belongs to another training: its {key} differ")
    return state


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint, tensors and plain containers only, to the CPU.

    Raises:
        InputError: the file is not a checkpoint, is truncated, or contains other objects.
    """
    try:
        if not zipfile.is_zipfile(bounds.regular(path)):
            raise InputError(f"{path} is not a checkpoint, or only a part of one")
        if (task := task_of(path)) is not None:
            raise InputError(f"{path} is a checkpoint of task={task}, which has no parameters to start from")
        bounds.check_torch(path)
        with zipfile.ZipFile(path) as archive:
            if (damaged := archive.testzip()) is not None:  # torch does not verify the checksums
                raise InputError(f"{path} is damaged ({damaged})")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is not a checkpoint of fusion: it holds Python objects, which could run code, and is not loaded"
        ) from error
    except Exception as error:  # torch raises exceptions of many types for a foreign file
        raise InputError(f"{path} is not a readable checkpoint: {bounds.reason(error)}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a checkpoint")
    return content
