"""From a composed configuration to a result: checks, directory, seeds, task, result.json, last lines."""

from __future__ import annotations

import errno
import io
import itertools
import os
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fusion import (
    bounds,
    devices,
    logs,
    messages,
    methods,
    plugins,
    processes,
    report,
    run_directory,
    system_config,
    trust,
    warning_summary,
)
from fusion import config as trees
from fusion.atomic import WRITTEN, listing, write_atomically
from fusion.checks import check_whole
from fusion.console.format import console, header, line
from fusion.errors import CalculationError, InputError
from fusion.layout import CHECKPOINT, CONFIG, METRICS, RESULT
from fusion.options import available, sources
from fusion.results import Result, read_result, write_result
from fusion.run_directory import LOCK, Lock
from fusion.runs import Run
from fusion.system import System

_RUNNING = threading.RLock()
_DISK_ERRORS = {
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EROFS", "EIO", "EFBIG", "ESTALE") if hasattr(errno, name)
}
METHODS = "methods"
"""The list of a task that names several methods; its presence says that no +method= belongs to the run."""


class Directories(Callback):
    """Takes back the directories that Hydra makes before the job could check anything."""

    current: Directories | None = None  # Hydra makes the instance, and tells nobody of a sweep that it refuses to start

    def __init__(self) -> None:
        self.existing = self.target = Path("/")
        Directories.current = self

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.target = Path(config.hydra.run.dir).absolute()
        self.existing = _existing(self.target)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.target = Path(config.hydra.sweep.dir).absolute()
        self.existing = _existing(self.target)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        remove_empty(Path(config.hydra.runtime.output_dir), self.existing)

    def clean_sweep(self) -> None:
        """Remove a sweep's directory of which nothing came but Hydra's record of the sweep."""
        record = self.target / "multirun.yaml"
        if record.is_file() and list(self.target.iterdir()) == [record]:
            record.unlink()
            remove_empty(self.target, self.existing)


def job(config: DictConfig) -> float | None:
    """What Hydra calls, once per job. Returns the objective, the energy in hartree, for sweepers that optimise.

    Raises Unconverged for a result that is not ok, which has been written and shown by then.
    """
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN and processes.rank() == 0:
        console().print(f"\njob {hydra.job.num}: {' '.join(hydra.overrides.task)}", soft_wrap=True)
    named = hydra.mode == RunMode.MULTIRUN or any(word.startswith("hydra.run.dir=") for word in hydra.overrides.hydra)
    directory, start_dir = Path(hydra.runtime.output_dir), Path(hydra.runtime.cwd)
    result = execute(config, directory, start_dir, relaunch=True, unique=not named)
    if result.status != "ok" and processes.rank() == 0:  # when another ends with 1, torchrun stops the first
        raise Unconverged
    return result.energy


class Unconverged(CalculationError):
    """Nothing is left to say but the exit status."""


def run(overrides: Sequence[str] = ()) -> Result:
    """Run a calculation in this process: `fusion.run(["+method=ferminet", "system=h2"])`, words as on the command line.

    Returns the result, also one that did not converge (see `status`). Runs of several threads wait for one another:
    seed, log and output belong to the process. Raises InputError for what cannot be done, with nothing written, and
    CalculationError for a calculation that failed.
    """
    from fusion import overrides as words

    if isinstance(overrides, str):
        raise InputError(f"overrides are a list of words, [{overrides!r}]")
    with _RUNNING:
        config, directory = trees.compose(words.prepare(overrides, multirun=False))
        named = any(word.startswith("hydra.run.dir=") for word in overrides)
        return execute(config, directory, Path.cwd(), unique=not named)


def resume(directory: Path, relaunch: bool = False) -> Result:
    """Go on with the run in `directory`, from its last checkpoint if there is one; a finished run shows its result
    again."""
    config = load_config(directory)
    with trust.settings(config, directory / CONFIG):
        if (directory / CHECKPOINT).is_file() or config.get("ckpt") is None:
            config.ckpt = "last"
        return execute(config, directory.absolute(), Path.cwd(), relaunch)


def load_config(directory: Path) -> DictConfig:
    """The resolved configuration of a run. Raises InputError where there is none or it cannot be read."""
    file = directory / CONFIG
    if not file.is_file():
        raise InputError(f"{directory} is not the directory of a run: it has no {CONFIG}")
    try:
        config = OmegaConf.load(io.StringIO(bounds.checked_yaml(bounds.text(file))))
    except Exception as error:  # YAML has many ways to be wrong
        raise InputError(f"{file}: {messages.one_line(error)}") from error
    if not isinstance(config, DictConfig):
        raise InputError(f"{file} is damaged: it holds a list, not settings")
    for key in ("system", "task", "trainer", "seed", "dtype", "ckpt"):
        if key not in config or (key in ("system", "task", "trainer") and not isinstance(config[key], DictConfig)):
            raise InputError(f"{file} is damaged: it has no settings of {key}")
    trust.refuse_interpolations(config, f"{file}: ")
    return config


@processes.running()
def execute(
    config: DictConfig, directory: Path, start_dir: Path, relaunch: bool = False, unique: bool = False
) -> Result:
    """One run with everything that belongs to it.

    `relaunch`: see `processes.job`; `unique`: the directory is named by the clock, and another run may have the name.
    Raises InputError before anything is written.
    """
    began = time.perf_counter()
    plugins.refuse_conflicts(sources())
    config = resolved(config, start_dir)
    if (directory / CONFIG).is_file():
        trust.refuse_links(directory, to_write=True)
    done = _finished(directory, config)
    if done is not None:
        return done
    first = processes.rank() == 0
    existing = _existing(directory)
    with Lock(directory) as lock:
        if first and existing == directory and not unique:
            with _usable(directory):
                lock.acquire()
        system = system_config.read(config.system, start_dir)  # first: the method imports torch
        method = None if METHODS in config else _build(lambda: methods.build(config.method), "method")
        task = _build(lambda: instantiate(config.task, _recursive_=False), "task")
        if config.get("data") is not None and not getattr(task, "reads_data", False):
            raise InputError(f"task={task.name} reads no data; data= belongs to task=evaluate and task=train")
        kind, name = getattr(method, "kind", None), getattr(method, "name", f"task={task.name}")
        devices.check(str(config.trainer.get("accelerator", "auto")), kind, name, task.name == "train")
        run = Run(directory, config, find_checkpoint(config.ckpt, directory, start_dir), config.seed, start_dir)
        if config.trainer.get("threads") is not None:
            _use_threads(config.trainer.threads)
        _build(lambda: task.check(method, system, run), "task")
        if first:
            with _usable(directory):
                run = _prepare_directory(run, lock, unique)
            _announce(run, method, system, task)
        try:
            with _resumable(run.directory, first, relaunch), _writing(run.directory):
                result = _calculated(run, method, system, task, lock, began, relaunch)
        except InputError:
            if first:
                _withdraw(run.directory, existing)
            raise
    if first:
        if (run.directory / METRICS).is_file():  # progress has been shown
            console().print()
        report.summary(read_result(run.directory) or {}, run.directory)
    return result


def _calculated(run: Run, method: Any, system: System, task: Any, lock: Lock, began: float, relaunch: bool) -> Result:
    """The result of the run's task; the first rank writes it and draws its pictures."""
    first = processes.rank() == 0
    with (
        listing(run.directory) if first else nullcontext(),
        logs.into(run.directory if first else None),
        processes.job(run.directory, run.checkpoint, relaunch),
        processes.silent(not first),
    ):
        _seed(run)
        try:
            with warning_summary.collected() as warned:
                result = _build(lambda: task.run(method, system, run), "task")
            result.warnings = list(dict.fromkeys([*result.warnings, *warned.sentences()]))
            lock.check()
        except CalculationError as error:
            if first:
                with suppress(OSError, CalculationError):
                    lock.check()
                    failed = Result(system, "failed", message=str(error))
                    write_result(run, method, task.name, failed, time.perf_counter() - began)
            raise
        if first:
            write_result(run, method, task.name, result, time.perf_counter() - began)
            _draw(run.directory)
    return result


def _draw(directory: Path) -> None:
    """Draw the pictures of a run whose result is written: without room for them, the run is done all the same."""
    try:
        report.redraw(directory)
    except OSError as error:
        if not (directory / RESULT).is_file():
            raise
        place = error.filename or directory
        line("note", f"no picture: {place}: {error.strerror}; fusion report {directory} draws it")


@contextmanager
def _usable(directory: Path) -> Iterator[None]:
    """Raise InputError where a run cannot begin to write into `directory`."""
    try:
        yield
    except OSError as error:
        place = error.filename or directory
        raise InputError(f"the directory {directory} cannot be written to: {place}: {error.strerror}") from error


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """Raise CalculationError, in one line, where a file cannot be written: a full disk, a directory that is gone."""
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


@contextmanager
def _resumable(directory: Path, first: bool, program: bool) -> Iterator[None]:
    """Tell who stops the run how to go on with it; `program`: signals are fusion's, not those of a user's Python."""
    from fusion.tasks.interruption.stopping import raised

    try:
        with raised() if program else nullcontext():
            yield
    except KeyboardInterrupt:
        if first:
            print(f"\nstopped; fusion resume {directory} goes on with it", file=sys.stderr, flush=True)
        raise


def resolved(config: DictConfig, start_dir: Path) -> DictConfig:
    """A plain copy without interpolations, the user's relative paths made absolute.

    Raises InputError where there is no method, or one with a task that names several itself.
    """
    _check_nodes(config)
    trust.refuse_environment(config)
    try:
        config = DictConfig(OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    except OmegaConfBaseException as error:
        raise InputError(messages.one_line(error)) from error
    trust.refuse_interpolations(config)
    if not isinstance(config.seed, int) or isinstance(config.seed, bool):
        raise InputError(f"seed must be a whole number, not {config.seed}")
    if not -(2**63) <= config.seed < 2**63:
        raise InputError(f"seed must be a number of at most 64 bits, not {config.seed}")
    if config.dtype not in ("float32", "float64"):
        raise InputError(f"dtype must be float32 or float64, not {config.dtype}")
    if config.system.get("path") is not None:
        config.system.path = str(start_dir / Path(str(config.system.path)).expanduser())
    for key in ("frames", "product", "guess"):
        if isinstance(config.task.get(key), str):
            config.task[key] = str(start_dir / Path(config.task[key]).expanduser())
    reaction = config.task.get("reaction")
    if reaction is not None:
        from fusion.reaction import with_full_paths
    if isinstance(reaction, str):
        config.task.reaction = with_full_paths(reaction, start_dir)
    elif isinstance(reaction, ListConfig):
        config.task.reaction = [with_full_paths(str(text), start_dir) for text in reaction]
    if config.get("data") is not None:
        from fusion.datasets.naming import absolute

        config.data = absolute(config.data, start_dir)
    if config.ckpt is not None and config.ckpt != "last":
        config.ckpt = str(start_dir / Path(str(config.ckpt)).expanduser())
    OmegaConf.set_struct(config, True)
    return config


def find_checkpoint(ckpt: str | None, directory: Path, start_dir: Path) -> Path | None:
    """The checkpoint file that `ckpt` names; `last` is the one in `directory` and None when there is none yet."""
    if ckpt is None:
        return None
    if ckpt == "last":
        own = directory / CHECKPOINT
        return own if own.is_file() else None
    path = start_dir / ckpt
    if path.is_dir():
        path = path / CHECKPOINT
    if not path.is_file():
        raise InputError(f"no checkpoint {path} (ckpt=FILE, ckpt=RUN_DIR or ckpt=last)")
    return path


def _check_nodes(config: DictConfig) -> None:
    """Hydra makes `+method=x` the string x when nobody provides that option."""
    known = available("method")
    method = config.get("method")
    if METHODS in config and method is not None:
        task = config.task.get("name")
        raise InputError(f"task={task} takes its methods from methods=[NAME, ...]; leave +method= out")
    if METHODS not in config and not isinstance(method, DictConfig):
        raise InputError(messages.no_option("method", None if method is None else str(method), known))
    for group in ("system", "task"):
        if not isinstance(config.get(group), DictConfig):
            raise InputError(messages.no_option(group, str(config.get(group)), available(group)))


def _build(make: Any, what: str) -> Any:
    try:
        return make()
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, (InputError, CalculationError)):
                raise cause from None
            cause = cause.__cause__
        raise InputError(f"{what}: {messages.one_line(error)}") from error


def _finished(directory: Path, config: DictConfig) -> Result | None:
    """The result of the run that `ckpt=last` asks to go on with, if it is complete and its settings are these."""
    if config.ckpt != "last":
        return None
    document = read_result(directory)
    if document is None or document.get("status") == "failed":
        return None
    if not _same_settings(directory, config):
        return None
    if processes.rank() == 0:
        report.report(directory)
    energy = document.get("energy") or {}
    return Result(
        system_config.read(config.system, Path.cwd()),
        document["status"],
        energy.get("value"),
        energy.get("stderr"),
        message=document.get("message"),
    )


def _same_settings(directory: Path, config: DictConfig) -> bool:
    """True where the run in `directory` goes on (`ckpt=last`) with the settings it had."""
    if config.ckpt != "last" or not (directory / CONFIG).is_file():
        return False
    return _without_ckpt(load_config(directory)) == _without_ckpt(config)


def _without_ckpt(config: DictConfig) -> dict[str, Any]:
    content = OmegaConf.to_container(config, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items() if key != "ckpt"}


def _unused(directory: Path) -> Path:
    """Make and return `directory`, or one with a number behind its name when another run of the same second has it."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        candidate = directory if number == 1 else directory.with_name(f"{directory.name}-{number}")
        try:
            candidate.mkdir()
        except FileExistsError:
            continue
        return candidate
    raise AssertionError


def _withdraw(directory: Path, existing: Path) -> None:
    """Leave nothing of a run that was refused only when it began, such as for a device that is not there."""
    if existing != directory and {path.name for path in directory.iterdir()} <= {CONFIG, LOCK, WRITTEN, logs.FILENAME}:
        for path in directory.iterdir():
            path.unlink()
        remove_empty(directory, existing)


def _prepare_directory(run: Run, lock: Lock, unique: bool) -> Run:
    """Make the run's directory, lock it and write the settings; the files of another run in it are moved aside.

    Returns the run, with another directory where `unique` asks for one that no run has.
    """
    if unique:
        run = replace(run, directory=_unused(run.directory))
    run.directory.mkdir(parents=True, exist_ok=True)
    lock.directory = run.directory
    lock.acquire()
    own = run.directory / CHECKPOINT
    run_directory.remove_parts(run.directory)
    if run.checkpoint is None or run.checkpoint.resolve() != own.resolve():
        if not _same_settings(run.directory, run.config):
            run_directory.put_aside(run.directory, list(_texts(OmegaConf.to_container(run.config))))
        (run.directory / METRICS).unlink(missing_ok=True)
        if own.is_file():  # days of work may be in it
            os.replace(own, own.with_name("previous.ckpt"))
    (run.directory / RESULT).unlink(missing_ok=True)
    with listing(run.directory):
        write_atomically(run.directory / CONFIG, trust.text(run.config))
    return run


def _texts(value: Any) -> Iterator[str]:
    """All texts of nested containers."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _announce(run: Run, method: Any, system: System, task: Any) -> None:
    """The first lines of a run.

    A task may have a `title(method, system, run)` of its own: the parts of the line, and the notes below it.
    """
    from fusion.chemistry import constraints

    if hasattr(task, "title"):
        parts, notes = task.title(method, system, run)
    else:
        parts, notes = (getattr(method, "label", method.name), report.title_of(system), str(task.name)), ()
    here = run.directory.is_relative_to(run.start_dir)
    place = str(run.directory.relative_to(run.start_dir) if here else run.directory)
    licence = getattr(method, "licence", None)
    terms = () if licence is None else (f"licence of {getattr(method, 'label', method.name)}: {licence}",)
    own = dict.fromkeys((*notes, *constraints.notes(system), *system.notes))
    header(*parts, notes=(*own, *terms, place))
    if run.config.ckpt == "last" and run.checkpoint is None:
        console().print(f"no {CHECKPOINT} yet: starting from the beginning", soft_wrap=True)


def _use_threads(number: Any) -> None:
    import torch

    check_whole("trainer.threads", number)
    torch.set_num_threads(number)


def _seed(run: Run) -> None:
    import numpy as np
    import torch

    if run.config.trainer.get("threads") is not None:  # else Lightning shares the machine's among its ranks
        os.environ["OMP_NUM_THREADS"] = str(run.config.trainer.threads)
    os.environ["PL_GLOBAL_SEED"] = str(run.seed)  # further ranks and data loading workers take theirs from here
    random.seed(run.seed)
    np.random.seed(run.seed % 2**32)
    torch.manual_seed(run.seed)


def _existing(path: Path) -> Path:
    """The nearest ancestor of `path`, or itself, that is there."""
    return path if path.exists() else _existing(path.parent)


def remove_empty(directory: Path, keep: Path) -> None:
    """Remove `directory` and its ancestors below `keep`, as long as they are empty."""
    while directory != keep and keep in directory.parents:
        try:
            directory.rmdir()
        except OSError:
            return
        directory = directory.parent
