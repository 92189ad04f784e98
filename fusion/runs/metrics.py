"""Loggers: metrics.csv, which every run has, and the optional ones."""

from __future__ import annotations

import csv
import io
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from fusion.errors import InputError
from fusion.files.atomic import naming, record, write_atomically
from fusion.parallel import processes
from fusion.runs.layout import METRICS
from fusion.runs.results import check_table

if TYPE_CHECKING:
    from pytorch_lightning import Trainer
    from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger


class MetricsFile(Logger):
    """Logger that writes one row per call at once. None values are omitted; a new quantity gets a new last column.

    A resumed run keeps the rows that its checkpoint records (`keep`), so that its file equals that of an uninterrupted
    run.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.path = directory / METRICS
        rows = self._read()
        self.columns = list(rows[0]) if rows else []
        self.rows = len(rows)

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml has all settings."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        row = {key: _cell(value) for key, value in metrics.items() if value is not None and key != "epoch"}
        if step is not None:
            row = {"step": str(step), **row}
        new = [key for key in row if key not in self.columns]
        if new:
            self._write(self.columns + new, self._read())
        with naming(self.path), record(self.path).open("a", newline="") as file:
            csv.DictWriter(file, self.columns, restval="", lineterminator="\n").writerow(row)
        self.rows += 1

    @rank_zero_only
    def keep(self, rows: int) -> None:
        """Keep the first `rows` rows and the columns that they use."""
        first_rows = self._read()[:rows]
        columns = list(dict.fromkeys(key for row in first_rows for key, value in row.items() if value != ""))
        # Columns are in the order of first use, as in an uninterrupted run.
        self._write(columns, first_rows)
        self.rows = len(first_rows)

    def _read(self) -> list[dict[str, str]]:
        if not self.path.is_file():
            return []
        check_table(self.path)
        with self.path.open(newline="") as file:
            reader = csv.DictReader(file)
            # A kill can leave half a last line; it belongs to no checkpoint.
            return [row for row in reader if None not in row.values()]

    def _write(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue())
        self.columns = columns


def log(trainer: Trainer, row: Mapping[str, Any], step: int) -> None:
    """Write one row to every logger of the trainer.

    Texts (such as `phase`) go to metrics.csv only; for other loggers the phase becomes a prefix.
    """
    prefix = f"{row['phase']}/" if "phase" in row else ""
    numbers = {f"{prefix}{key}": float(value) for key, value in row.items() if isinstance(value, (int, float))}
    for logger in trainer.loggers:
        if isinstance(logger, MetricsFile):
            logger.log_metrics(row, step)
        else:
            logger.log_metrics(numbers, step)


def tensorboard_logger(save_dir: str, **settings: Any) -> TensorBoardLogger:
    """Return Lightning's logger for TensorBoard.

    Raises:
        InputError: TensorBoard, which is an optional dependency, is not installed.
    """
    from pytorch_lightning.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(save_dir=save_dir, **settings)
    except ModuleNotFoundError as error:
        extra = "pip install 'aiqm-fusion[tensorboard]'"
        raise InputError(f"logger=tensorboard needs TensorBoard, which is not installed: {extra}") from error


def wandb_logger(save_dir: str, **settings: Any) -> WandbLogger:
    """Return the logger for Weights & Biases: online if the user is logged in, otherwise offline."""
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    if "WANDB_MODE" not in os.environ and "mode" not in settings and not _has_wandb_account():
        settings["mode"] = "offline"
    quiet = wandb.Settings(silent=True, console="off")
    if processes.rank() == 0:
        wandb.setup(settings=quiet)  # settings passed to the run alone apply only after some output
    return WandbLogger(save_dir=save_dir, settings=quiet, **{"log_model": False, **settings})


def _has_wandb_account() -> bool:
    """True after `wandb login` or with WANDB_API_KEY; without this check wandb would stop and ask."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _cell(value: Any) -> str:
    if hasattr(value, "item"):
        value = value.item()
    return repr(value) if isinstance(value, float) else str(value)
