"""Where the talk of libraries goes: into the run's log.txt, not into the terminal."""

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
    """Send log records and warnings to `directory`/log.txt, or nowhere (None) in the ranks that write nothing."""
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
    """The log of a run, which goes on without it where the disk is full or the directory is gone."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            list_written(Path(self.baseFilename))
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Print nothing: what the run itself writes says what is wrong with the disk."""


def hush_lightning() -> None:
    """Take away the terminal handlers that Lightning gives its loggers when it is imported."""
    for name in _LIGHTNING:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
