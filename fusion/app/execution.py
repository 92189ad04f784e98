"""Execution of a run: checks, directory, seeds, task, result.json and the last lines."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig

from fusion import plugins
from fusion.app import run_result
from fusion.app.directories import existing, prepare, prepare_shared, usable, withdraw, writing
from fusion.app.run_result import RunResult
from fusion.app.settings import METHODS, find_checkpoint, join, load_config, refuse_changes, resolved, same_settings
from fusion.chemistry import structure_sets, system_input
from fusion.chemistry.structure_sets import StructureSet
from fusion.chemistry.system import System
from fusion.config import compose as trees
from fusion.config import messages
from fusion.config.checks import check_whole
from fusion.config.options import sources
from fusion.console import logs, units
from fusion.console.format import console, header, line
from fusion.errors import CalculationError, InputError
from fusion.files.atomic import listing
from fusion.methods import abilities, protocol
from fusion.methods.card_words import with_card
from fusion.methods.protocol import Method
from fusion.parallel import devices, processes
from fusion.runs import report, trust, warning_summary
from fusion.runs.directory import Lock
from fusion.runs.layout import CHECKPOINT, CONFIG, METRICS, RESULT
from fusion.runs.results import Origin, Result, read_result, write_result
from fusion.runs.run import Run
from fusion.runs.task import Plan, ReadingData, Task, Titled

_RUNNING = threading.RLock()


def job(config: DictConfig) -> float | None:
    """Run one job of Hydra. Returns the objective, the energy in hartree, for sweepers that optimise.

    Raises Unconverged for a result that is not ok, after writing and showing it.
    """
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN and processes.rank() == 0:
        console().print(f"\njob {hydra.job.num}: {' '.join(hydra.overrides.task)}", soft_wrap=True)
    named = hydra.mode == RunMode.MULTIRUN or any(word.startswith("hydra.run.dir=") for word in hydra.overrides.hydra)
    directory, start_dir = Path(hydra.runtime.output_dir), Path(hydra.runtime.cwd)
    result = execute(config, directory, start_dir, relaunch=True, unique=not named)
    if result.status != "ok" and processes.rank() == 0:  # if another rank exits with 1, torchrun stops the first
        raise Unconverged
    return result.energy


class Unconverged(CalculationError):
    """A result that is not ok; it has been shown, so that only the exit status remains."""


def run(overrides: Sequence[str] = ()) -> RunResult:
    """Run a calculation in this process: `fusion.run(["+method=ferminet", "system=h2"])`, words as on the command line.

    Returns the result, also an unconverged one (see `status`). Runs in several threads wait for each other, because
    seed, log and output belong to the process. Raises InputError for wrong input, before anything is written, and
    CalculationError for a failed calculation.
    """
    from fusion.config import overrides as words

    if isinstance(overrides, str):
        raise InputError(f"overrides must be a list of words: [{overrides!r}]")
    with _RUNNING:
        config, directory = trees.compose(with_card(words.prepare(overrides, multirun=False)))
        named = any(word.startswith("hydra.run.dir=") for word in overrides)
        return execute(config, directory, Path.cwd(), unique=not named)


def resume(directory: Path, relaunch: bool = False) -> RunResult:
    """Resume the run in `directory` from its last checkpoint, if there is one; a finished run prints its result."""
    config = load_config(directory)
    with trust.settings(config, directory / CONFIG):
        if (directory / CHECKPOINT).is_file() or config.get("ckpt") is None:
            config.ckpt = "last"
        return execute(config, directory.absolute(), Path.cwd(), relaunch)


@processes.running()
def execute(
    config: DictConfig, directory: Path, start_dir: Path, relaunch: bool = False, unique: bool = False
) -> RunResult:
    """Execute a run from the checks to the last lines.

    For `relaunch` see `processes.job`. `unique`: the directory's name comes from the clock, and another run may have
    the same name. Raises InputError before anything is written.
    """
    began = time.perf_counter()
    plugins.refuse_conflicts(sources())
    config = resolved(config, start_dir)
    with units.using(config.units):
        return _executed(config, directory, start_dir, relaunch, unique, began)


def _executed(
    config: DictConfig, directory: Path, start_dir: Path, relaunch: bool, unique: bool, began: float
) -> RunResult:
    """Execute a run with resolved settings."""
    if (directory / CONFIG).is_file():
        trust.refuse_links(directory, to_write=True)
        if structure_sets.stated(config.system):
            join(directory, config)
    done = _finished(directory, config)
    if done is not None:
        return done
    first = processes.rank() == 0
    before = existing(directory)
    many = structure_sets.stated(config.system)
    with Lock(directory, shared=many) as lock:
        if first and before == directory and not unique:
            with usable(directory):
                lock.acquire()
        run, task, plan = planned(config, directory, start_dir)
        if first:
            with usable(directory):
                run = (prepare_shared if many else prepare)(run, lock, unique)
            announce(run, task, plan)
        try:
            with _resumable(run.directory, first, relaunch), writing(run.directory):
                result = _calculated(run, task, plan, lock, began, relaunch)
        except InputError:
            if first:
                withdraw(run.directory, before)
            raise
    if first:
        if (run.directory / METRICS).is_file():  # separate the result from the progress
            console().print()
        report.summary(read_result(run.directory) or {}, run.directory)
    return run_result.of_run(result, run.directory)


def planned(config: DictConfig, directory: Path, start_dir: Path) -> tuple[Run, Any, Plan]:
    """Build task and method from resolved settings, and check them. Writes nothing. Raises InputError."""
    subject = _subject(config, start_dir)  # before the method, which imports torch
    method = None if METHODS in config else build(lambda: protocol.build(config.method), "method")
    if isinstance(subject, System):
        abilities.check_cores(method, subject)
        abilities.check_gas(method, subject)
    task = build_task(config)
    reads_data = isinstance(task, ReadingData) and task.reads_data
    if config.get("data") is not None and not reads_data:
        raise InputError(f"task={task.name} reads no data; data= belongs to task=evaluate and task=train")
    kind, name = (None, f"task={task.name}") if method is None else (method.kind, method.name)
    devices.check(str(config.trainer.get("accelerator", "auto")), kind, name, task.name == "train")
    refuse_changes(directory, config)
    run = Run(directory, config, find_checkpoint(config.ckpt, directory, start_dir), config.seed, start_dir)
    if config.trainer.get("threads") is not None:
        _use_threads(config.trainer.threads)
    return run, task, _plan(task, method, subject, run)


def _subject(config: DictConfig, start_dir: Path) -> System | StructureSet:
    """The structure, or the structures, of a run."""
    if structure_sets.stated(config.system):
        return structure_sets.read(config.system)
    return system_input.read(config.system, start_dir)


def build_task(config: DictConfig) -> Any:
    """Build the task of a configuration, that for many structures if it has many. Raises InputError."""
    task = build(lambda: instantiate(config.task, _recursive_=False), "task")
    if not structure_sets.stated(config.system):
        return task
    from fusion.tasks.structures.task import TakesSets

    if not isinstance(task, TakesSets):
        raise InputError(
            f"task={config.task.get('name')} has one structure; systems= belongs to task=energy, label, relax and "
            "vibrations"
        )
    return task.of_set()


def _plan(task: Any, method: Any, subject: System | StructureSet, run: Run) -> Plan:
    plan = build(lambda: task.check(method, subject, run), "task")
    if not isinstance(plan, Plan):
        raise InputError(f"{type(task).__name__}.check returns no plan; it must return a fusion.runs.task.Plan")
    return plan


def _calculated(run: Run, task: Task, plan: Plan, lock: Lock, began: float, relaunch: bool) -> Result:
    """Return the result of the run's task; the first rank writes it and draws its plots."""
    first, origin = processes.rank() == 0, _origin(plan.method)
    with (
        listing(run.directory) if first else nullcontext(),
        logs.into(run.directory if first else None),
        processes.job(run.directory, run.checkpoint, relaunch),
        processes.silent(not first),
    ):
        seed(run)
        try:
            with warning_summary.collected() as warned:
                result: Result = build(lambda: task.run(plan, run), "task")
            result.warnings = list(dict.fromkeys([*result.warnings, *warned.sentences()]))
            lock.check()
        except CalculationError as error:
            if first:
                with suppress(OSError, CalculationError):
                    lock.check()
                    failed = Result(plan.system, "failed", message=str(error))
                    write_result(run, origin, task.name, failed, time.perf_counter() - began)
            raise
        if first:
            write_result(run, origin, task.name, result, time.perf_counter() - began)
            _draw(run.directory)
    return result


def _origin(method: Method | None) -> Origin | None:
    return None if method is None else Origin(method.name, method.kind, method.energy_zero, abilities.weights(method))


def _draw(directory: Path) -> None:
    """Draw the plots of a run whose result is written; a full disk does not make the run fail."""
    try:
        report.redraw(directory)
    except OSError as error:
        if not (directory / RESULT).is_file():
            raise
        place = error.filename or directory
        line("note", f"no plot: {place}: {error.strerror}; fusion report {directory} draws it")


@contextmanager
def _resumable(directory: Path, first: bool, program: bool) -> Iterator[None]:
    """Print the resume command when the run is stopped; with `program`, fusion handles the signals itself."""
    from fusion.runs.signals import raised

    try:
        with raised() if program else nullcontext():
            yield
    except KeyboardInterrupt:
        if first:
            print(f"\nstopped; fusion resume {directory} continues the run", file=sys.stderr, flush=True)
        raise


def build(make: Any, node: str) -> Any:
    """Return what `make` builds from the settings under `node`; raise Hydra's errors as InputError."""
    try:
        return make()
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, (InputError, CalculationError)):
                raise cause from None
            cause = cause.__cause__
        raise InputError(f"{node}: {messages.one_line(error)}") from error


def _finished(directory: Path, config: DictConfig) -> RunResult | None:
    """Return the result of the run that `ckpt=last` resumes if it is complete and has the same settings."""
    if config.ckpt != "last":
        return None
    document = read_result(directory)
    if document is None or document.get("status") == "failed":
        return None
    if not same_settings(directory, config):
        return None
    if processes.rank() == 0:
        report.report(directory, config.units)
    return run_result.restored(document, directory)


def announce(run: Run, task: Task, plan: Plan) -> None:
    """Print the first lines of a run."""
    from fusion.chemistry import constraints

    method, system = plan.method, plan.system
    if isinstance(task, Titled):
        parts, notes = task.title(plan, run)
    else:
        parts, notes = (method.label, report.title_of(system), str(task.name)), ()
    is_below = run.directory.is_relative_to(run.start_dir)
    place = str(run.directory.relative_to(run.start_dir) if is_below else run.directory)
    licence = abilities.licence(method)
    terms = () if licence is None else (f"licence of {method.label}: {licence}",)
    about = (method.about.note,) if isinstance(method, abilities.Described) and method.about.note else ()
    all_notes = dict.fromkeys((*about, *notes, *constraints.notes(system), *system.notes))
    header(*parts, notes=(*all_notes, *terms, place))
    if run.config.ckpt == "last" and run.checkpoint is None and not structure_sets.stated(run.config.system):
        console().print(f"no {CHECKPOINT} yet: starting from the beginning", soft_wrap=True)


def _use_threads(number: Any) -> None:
    import torch

    check_whole("trainer.threads", number)
    torch.set_num_threads(number)


def seed(run: Run) -> None:
    """Seed all generators of random numbers."""
    import numpy as np
    import torch

    if (
        run.config.trainer.get("threads") is not None
    ):  # otherwise Lightning divides the machine's threads among its ranks
        os.environ["OMP_NUM_THREADS"] = str(run.config.trainer.threads)
    os.environ["PL_GLOBAL_SEED"] = str(run.seed)  # other ranks and data-loading workers read it
    random.seed(run.seed)
    np.random.seed(run.seed % 2**32)
    torch.manual_seed(run.seed)
