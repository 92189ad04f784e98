"""Start of runs from the command line: through Hydra, from a run's directory, or as a further rank."""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fusion import plugins
from fusion.config import compose as trees
from fusion.config import overrides
from fusion.config.options import core_directory, groups, option_files, sources, suggestion
from fusion.errors import CalculationError, InputError
from fusion.methods.card_words import with_card
from fusion.parallel import processes

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from fusion.app import Directories

_SWEEP = {"-m", "--multirun"}
_DRY = "--dry-run"


def launch(words: list[str]) -> int:
    """Run `fusion +method=NAME ...`: one job or a sweep, composed and started by Hydra. Returns the exit status."""
    import hydra

    from fusion import app
    from fusion.config.messages import HYDRA_ERRORS, of_hydra, one_line

    plugins.refuse_conflicts(sources())
    multirun = bool(_SWEEP & set(words))
    if _DRY in words:
        return _dry_run([word for word in words if word != _DRY and word not in _SWEEP], multirun)
    prepared = with_card(overrides.prepare([word for word in words if word not in _SWEEP], multirun))
    if multirun:
        _refuse_empty_sweeps(prepared)
    prepared[:0] = ["-m"] if multirun else []  # Hydra accepts it only at the beginning or the end
    _refuse_unknown_flags(prepared)
    trees.refuse_empty_choices(prepared)
    trees.refuse_unknown_additions(prepared)
    trees.register_search_path()
    known_errors = (InputError, CalculationError, *HYDRA_ERRORS)
    failures: list[Exception] = []
    process, started = os.getpid(), False

    def job(config: DictConfig) -> float | None:
        """Run one job and return its objective, NaN if it failed with a known error."""
        # If a job raises, Hydra prints its own message: collect the error instead. A worker of another launcher cannot
        # do this and must raise.
        nonlocal started
        started = True
        try:
            return app.job(config)
        except known_errors as error:
            if os.getpid() != process:
                raise
            failures.append(error)
            if multirun and str(error):
                print(f"error: {one_line(error)}", file=sys.stderr, flush=True)
            return math.nan

    start = hydra.main(version_base=trees.VERSION_BASE, config_path=str(core_directory()), config_name="config")(job)
    try:
        with _arguments(), _composed_once(prepared), _own_directory(prepared) as arguments:
            sys.argv[1:] = arguments
            start()
        if failures and not multirun:
            raise failures[0]
    except HYDRA_ERRORS as error:
        raise InputError(of_hydra(error, trees.known_settings(prepared), groups())) from error
    except OSError as error:
        refusal = _unusable_directory(error, app.Directories.current)
        if refusal is None:
            raise
        raise refusal from error
    except (ValueError, LookupError) as error:  # from Hydra's own options
        options = [word for word in prepared if word.startswith("-") and word not in _SWEEP]
        if started or not options:
            raise
        raise InputError(f"{' '.join(options)}: {one_line(error)}") from error
    finally:
        if multirun and app.Directories.current is not None:
            app.Directories.current.clean_sweep()
    if not failures:
        return 0
    return 1 if any(isinstance(failure, CalculationError) for failure in failures) else 2


def _dry_run(words: list[str], multirun: bool) -> int:
    """Check the run of `words`, or every job of a sweep, and describe it. Returns the exit status."""
    from fusion.app.dry_run import dry_run

    options = [word for word in words if word.startswith("-")]
    if options:
        raise InputError(f"{_DRY} takes settings alone; remove {' '.join(options)}")
    prepared = overrides.prepare(words, multirun)
    if not multirun:
        dry_run(prepared)
        return 0
    _refuse_empty_sweeps(prepared)
    status = 0
    for number, job in enumerate(trees.jobs(prepared)):
        print(f"{chr(10) if number else ''}job {number}: {' '.join(job)}")
        try:
            dry_run(job)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            status = 2
    return status


def resume(directory: Path) -> int:
    """Run `fusion resume RUN_DIR`. Returns the exit status."""
    from fusion import app

    plugins.refuse_conflicts(sources())
    converged = app.resume(directory, relaunch=True).status == "ok"
    return 0 if converged or processes.rank() > 0 else 1  # the first rank reports


def join(directory: Path, checkpoint: Path | None) -> int:
    """Join the run in `directory` as a further rank.

    Returns 0 unless it raises: the first rank reports the status.
    """
    from fusion import app
    from fusion.runs import trust
    from fusion.runs.layout import CONFIG

    config = app.load_config(directory)
    with trust.settings(config, directory / CONFIG):
        config.ckpt = str(checkpoint) if checkpoint else None
        app.execute(config, directory, Path.cwd())
    return 0


def _unusable_directory(error: OSError, directories: Directories | None) -> InputError | None:
    """Return the InputError for Hydra's failure to create a run's directory; None for an error elsewhere."""
    if directories is None or error.filename is None:
        return None
    target, place = directories.target, Path(error.filename).absolute()
    if place != target and place not in target.parents:
        return None
    return InputError(f"the directory {target} cannot be created: {error.strerror}")


def _refuse_unknown_flags(words: list[str]) -> None:
    from hydra._internal.utils import get_args_parser

    known = get_args_parser()._option_string_actions
    if {"--shell-completion", "-sc"} & set(words):  # Hydra's knows no short forms, plugins and models
        raise InputError("--shell-completion is not available: fusion completion bash (or zsh, fish) prints a script")
    for word in words:
        if word.startswith("-") and word.partition("=")[0] not in known:
            raise InputError(
                f"no option {word}.{suggestion(word, [*known, _DRY])}  fusion --help, fusion +method=NAME --help"
            )


def _refuse_empty_sweeps(words: list[str]) -> None:
    """Raise InputError for an empty sweep, `seed=range(3,3)`: Hydra would silently run no job."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob, RangeSweep
    from hydra.errors import HydraException

    for word in words:
        try:
            (override,) = OverridesParser.create().parse_overrides([word])
        except HydraException:  # an option, or a word that Hydra itself refuses
            continue
        value = override.value()
        options = option_files(override.key_or_group)
        if isinstance(value, Glob) and not value.filter(list(options)):
            raise InputError(f"{word} matches no name: the sweep has no job")
        if isinstance(value, RangeSweep) and not list(value.range()):
            raise InputError(f"{word} is an empty range: the sweep has no job")


@contextmanager
def _arguments() -> Iterator[None]:
    """Restore sys.argv, which Hydra reads, and set HYDRA_FULL_ERROR, with which Hydra raises instead of printing."""
    before, verbose = list(sys.argv), os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv[:] = before
        if verbose is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = verbose


@contextmanager
def _composed_once(words: list[str]) -> Iterator[None]:
    """Keep Hydra from composing all settings a first time only to read hydra.mode, if no word sets it.

    That takes 0.1 s. Without a mode, Hydra goes by -m, as it does for `hydra.mode: null`.
    """
    from hydra._internal.hydra import Hydra

    before = Hydra.get_mode
    if not any(word.lstrip("+").startswith("hydra.mode=") for word in words):
        Hydra.get_mode = lambda *_, **__: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Hydra.get_mode = before  # type: ignore[method-assign]


@contextmanager
def _own_directory(words: list[str]) -> Iterator[list[str]]:
    """Give further ranks from torchrun or SLURM a temporary directory.

    They write nothing, and a default directory, named by the clock, would differ from that of the first rank.
    """
    if processes.rank() == 0 or any(word.startswith(("hydra.run.dir=", "hydra.sweep.dir=")) for word in words):
        yield words
        return
    with tempfile.TemporaryDirectory() as place:
        yield [*words, f"hydra.run.dir={overrides.quote(place)}", f"hydra.sweep.dir={overrides.quote(place)}"]
