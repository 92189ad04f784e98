"""Where the talk of libraries goes: into the run's log.txt, not into the terminal."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILENAME = "log.txt"
_LIGHTNING = ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning.fabric", "lightning_utilities")


@contextmanager
def into(directory: Path | None) -> Iterator[None]:
    """Send log records and warnings to `directory`/log.txt, or nowhere (None) in the ranks that write nothing."""
    handler: logging.Handler = logging.NullHandler()
    if directory is not None:
        handler = logging.FileHandler(directory / FILENAME, encoding="utf-8", delay=True)
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
            handler.close()


def hush_lightning() -> None:
    """Take away the terminal handlers that Lightning gives its loggers when it is imported."""
    for name in _LIGHTNING:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
