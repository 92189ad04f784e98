"""`Run`: the directory and settings of a run, and the Trainer built from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from fusion.errors import InputError
from fusion.runs.layout import CHECKPOINT

if TYPE_CHECKING:
    from pytorch_lightning import Callback, Trainer
    from pytorch_lightning.loggers import Logger


@dataclass(frozen=True)
class Run:
    """Directory and settings of a run.

    `config` is the complete resolved configuration, `checkpoint` the file to resume from, if any. The user's relative
    paths are relative to `start_dir`.
    """

    directory: Path
    config: DictConfig
    checkpoint: Path | None
    seed: int
    start_dir: Path

    def part(self, folder: Path, config: DictConfig) -> Run:
        """Return a run in `folder`, below this run's directory, with its own checkpoint and settings."""
        candidate = None if self.checkpoint is None else self.checkpoint.parent.parent / folder / CHECKPOINT
        checkpoint = candidate if candidate is not None and candidate.is_file() else None
        return replace(self, directory=self.directory / folder, config=config, checkpoint=checkpoint)

    def trainer(self, **overrides: Any) -> Trainer:
        """Build the Lightning Trainer of this run from the settings `trainer`, `logger` and `callbacks`.

        `overrides` are Trainer keywords; `callbacks=[...]` among them are added to the configured ones. metrics.csv and
        atomic checkpoints are always included. Raises InputError for settings that Lightning refuses (a missing device,
        an unknown keyword).
        """
        from pytorch_lightning import Trainer
        from pytorch_lightning.callbacks import Checkpoint, ProgressBar
        from pytorch_lightning.utilities.exceptions import MisconfigurationException

        from fusion.console import logs
        from fusion.runs.checkpoints import AtomicCheckpointIO

        logs.hush_lightning()
        settings = OmegaConf.to_container(self.config.trainer, resolve=True)
        assert isinstance(settings, dict)
        settings.pop("threads", None)
        callbacks = self._callbacks() + list(overrides.pop("callbacks", []))
        defaults: dict[str, Any] = {
            "default_root_dir": str(self.directory),
            "logger": self._loggers(),
            "callbacks": callbacks,
            "plugins": [AtomicCheckpointIO()],
            "enable_model_summary": False,
            "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
            "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
        }
        try:
            return Trainer(**{**defaults, **settings, **overrides})
        except (MisconfigurationException, TypeError, ValueError) as error:
            raise InputError(f"trainer: {' '.join(str(error).split())}") from error

    def _loggers(self) -> list[Logger]:
        from hydra.utils import instantiate

        from fusion.runs.metrics import MetricsFile

        loggers: list[Logger] = [MetricsFile(self.directory)]
        for settings in (self.config.get("logger") or {}).values():
            # A logger without its own directory writes into the run's directory.
            place = {"save_dir": str(self.directory)} if "save_dir" in settings and settings.save_dir is None else {}
            loggers.append(instantiate(settings, **place))
        return loggers

    def _callbacks(self) -> list[Callback]:
        from hydra.utils import instantiate

        return [
            instantiate(settings) for settings in (self.config.get("callbacks") or {}).values() if settings is not None
        ]


def without_ckpt(settings: Any) -> dict[str, Any]:
    """Return plain settings without the initial checkpoint, the executor of workers and the units of the screen: equal
    for two runs of the same calculation."""
    return {str(key): value for key, value in settings.items() if key not in ("ckpt", "executor", "units")}
