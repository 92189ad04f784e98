"""Redirection of the libraries' log records and warnings to the run's log.txt."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fusion.files.atomic import record as list_written

FILENAME = "log.txt"
_LIGHTNING = ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning.fabric", "lightning_utilities")


@contextmanager
def into(directory: Path | None) -> Iterator[None]:
    """Send log records and warnings to `directory`/log.txt; None, for ranks that write nothing, discards them."""
    handler: logging.Handler = logging.NullHandler()
    if directory is not None:
        handler = _Log(directory / FILENAME, encoding="utf-8", delay=True)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    with warnings.catch_warnings():
        logging.captureWarnings(True)
        try:
            yield
        finally:
            logging.captureWarnings(False)
            root.removeHandler(handler)
            root.setLevel(level)
            with suppress(OSError):
                handler.close()


class _Log(logging.FileHandler):
    """Log of a run; a full disk or a removed directory does not stop the run."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            list_written(Path(self.baseFilename))
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Print nothing: the run's own writes report a fault of the disk."""


def hush_lightning() -> None:
    """Remove the terminal handlers that Lightning adds to its loggers when it is imported."""
    for name in _LIGHTNING:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
