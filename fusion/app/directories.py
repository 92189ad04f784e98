"""Creation of a run's directory, and its removal when the run is refused."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from fusion.app.settings import join, same_settings
from fusion.config import messages
from fusion.console import logs
from fusion.errors import CalculationError, InputError
from fusion.files.atomic import WRITTEN, listing, write_atomically
from fusion.runs import directory as run_directory
from fusion.runs import trust
from fusion.runs.directory import LOCK, Lock
from fusion.runs.layout import CHECKPOINT, CONFIG, METRICS, RESULT
from fusion.runs.run import Run

_DISK_ERRORS = {
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EROFS", "EIO", "EFBIG", "ESTALE") if hasattr(errno, name)
}


class Directories(Callback):
    """Removes the directories that Hydra creates before a job can check its settings."""

    current: Directories | None = None  # Hydra makes the instance, and does not report a sweep that it refuses to start

    def __init__(self) -> None:
        self.existing = self.target = Path("/")
        Directories.current = self

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.target = Path(config.hydra.run.dir).absolute()
        self.existing = existing(self.target)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.target = Path(config.hydra.sweep.dir).absolute()
        self.existing = existing(self.target)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        remove_empty(Path(config.hydra.runtime.output_dir), self.existing)

    def clean_sweep(self) -> None:
        """Remove a sweep's directory that contains only Hydra's record of the sweep."""
        record = self.target / "multirun.yaml"
        if record.is_file() and list(self.target.iterdir()) == [record]:
            record.unlink()
            remove_empty(self.target, self.existing)


def prepare(run: Run, lock: Lock, unique: bool) -> Run:
    """Create the run's directory, lock it and write the settings; move the files of an earlier run aside.

    Returns the run; with `unique` its directory is one that no other run has.
    """
    if unique:
        run = replace(run, directory=unused(run.directory))
    run.directory.mkdir(parents=True, exist_ok=True)
    lock.directory = run.directory
    lock.acquire()
    own = run.directory / CHECKPOINT
    run_directory.remove_parts(run.directory)
    if run.checkpoint is None or run.checkpoint.resolve() != own.resolve():
        if not same_settings(run.directory, run.config):
            run_directory.put_aside(run.directory, list(_texts(OmegaConf.to_container(run.config))))
        (run.directory / METRICS).unlink(missing_ok=True)
        if own.is_file():  # keep it: it may hold days of work
            os.replace(own, own.with_name("previous.ckpt"))
    (run.directory / RESULT).unlink(missing_ok=True)
    with listing(run.directory):
        write_atomically(run.directory / CONFIG, trust.text(run.config))
    return run


def prepare_shared(run: Run, lock: Lock, unique: bool) -> Run:
    """Create the directory of a run that several processes share, or join the others in it; return the run.

    Raises InputError if they calculate something else.
    """
    if unique:
        run = replace(run, directory=unused(run.directory))
    run.directory.mkdir(parents=True, exist_ok=True)
    lock.directory = run.directory
    lock.acquire()
    if (run.directory / CONFIG).is_file():
        join(run.directory, run.config)
    else:
        with listing(run.directory):
            write_atomically(run.directory / CONFIG, trust.text(run.config))
    lock.share()
    return run


def unused(directory: Path) -> Path:
    """Create and return `directory`, or one with a number appended if another run of the same second has it."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        candidate = directory if number == 1 else directory.with_name(f"{directory.name}-{number}")
        try:
            candidate.mkdir()
        except FileExistsError:
            continue
        return candidate
    raise AssertionError


def withdraw(directory: Path, before: Path) -> None:
    """Remove the files of a run that was refused only at its start, for example for a missing device."""
    if before != directory and {path.name for path in directory.iterdir()} <= {CONFIG, LOCK, WRITTEN, logs.FILENAME}:
        for path in directory.iterdir():
            path.unlink()
        remove_empty(directory, before)


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts of nested containers."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


@contextmanager
def usable(directory: Path) -> Iterator[None]:
    """Raise InputError if a run cannot start to write into `directory`."""
    try:
        yield
    except OSError as error:
        place = error.filename or directory
        raise InputError(f"the directory {directory} cannot be written to: {place}: {error.strerror}") from error


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Raise CalculationError if a file cannot be written: a full disk, a removed directory."""
    try:
        yield
    except OSError as error:
        file = error.filename2 or error.filename
        inside = file is not None and Path(os.fsdecode(file)).is_relative_to(directory)
        if not inside and error.errno not in _DISK_ERRORS:
            raise
        if not directory.is_dir():
            raise CalculationError(f"{directory} was removed while the run was writing to it") from error
        reason = error.strerror or messages.one_line(error)
        raise CalculationError(
            f"{file or 'a file'} cannot be written: {reason}; fusion resume {directory} continues the run after that"
        ) from error


def existing(path: Path) -> Path:
    """Return the nearest existing ancestor of `path`, or `path` itself."""
    return path if path.exists() else existing(path.parent)


def remove_empty(directory: Path, keep: Path) -> None:
    """Remove `directory` and its ancestors below `keep`, as long as they are empty."""
    while directory != keep and keep in directory.parents:
        try:
            directory.rmdir()
        except OSError:
            return
        directory = directory.parent
