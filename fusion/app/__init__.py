"""Execution of a composed configuration: settings, directory, task, result.json and the last lines."""

from fusion.app.directories import Directories
from fusion.app.execution import Unconverged, execute, job, resume, run
from fusion.app.settings import find_checkpoint, load_config, resolved

__all__ = [
    "Directories",
    "Unconverged",
    "execute",
    "find_checkpoint",
    "job",
    "load_config",
    "resolved",
    "resume",
    "run",
]
