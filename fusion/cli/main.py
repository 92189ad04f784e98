"""Command line. Arguments that look like settings (`+method=ferminet`) start a run; all others are commands."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

import fusion
from fusion.cli import export, plugins, zoo
from fusion.console import streams
from fusion.errors import CalculationError, InputError
from fusion.parallel.processes import PART_COMMAND, RANK_COMMAND, WORK_COMMAND, end_with_parent, rank

_EXAMPLES = """
    python -m fusion +method=NAME [task=T] [system=S] [key=value ...]   runs a calculation; the word run is optional

    python -m fusion +method=NAME --help   its settings      -m seed=0,1,2   a sweep      fusion methods   the names

    fusion help   topics: tasks, methods, choices, settings      --dry-run   checks a run and says what it would do
"""

app = typer.Typer(
    name="fusion",
    help=f"Learned quantum chemistry: potentials, density functionals, wavefunctions.\n\n{_EXAMPLES}",
    add_completion=False,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
zoo.app.command("export")(export.command)
app.add_typer(zoo.app, name="zoo")
app.add_typer(plugins.app, name="plugins")
# Click's ClickException: newer versions of Typer bring a Click of their own and export only errors derived from it.
_USAGE_ERRORS: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")
_HELP = frozenset({"-h", "--help"})
# Commands that are called at once: to read their words, Typer loads pydantic, which takes longer than their answers.
_ANSWERS = frozenset({"completion", "doctor", "help", "methods"})
Words = Annotated[list[str] | None, typer.Argument(metavar="[TOPIC]", show_default=False)]
Directory = Annotated[Path, typer.Argument(metavar="RUN_DIR", show_default=False)]
Units = Annotated[
    str | None,
    typer.Option(help="hartree, eV, kcal/mol or kJ/mol; default: as the run was started.", show_default=False),
]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program and exit with its status.

    0 done, 1 failed or not converged, 2 wrong input, 130 interrupted, 143 terminated.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        streams.open_any()
    verbose = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")
    try:
        status = _dispatch(words)
    except InputError as error:
        status = _print_error(error, 2, verbose)
    except CalculationError as error:
        status = _print_error(error, 1, verbose)
    except KeyboardInterrupt as stop:
        status = _interrupted(stop)
    except FileNotFoundError:
        if _has_working_directory():
            raise
        status = _print_error(InputError("the working directory was removed; change into one that exists"), 2, verbose)
    lost = streams.lost()
    if lost:
        print(f"standard output could not be written: {lost}", file=sys.stderr)
        status = status or int(not _is_run(words) and words[:1] != ["resume"])  # a run's results are in its directory
    sys.exit(status)


def _has_working_directory() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _interrupted(stop: KeyboardInterrupt) -> int:
    """Return 128 + the number of the signal: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + int(getattr(stop, "number", signal.SIGINT))


def _print_error(error: Exception, status: int, verbose: bool) -> int:
    if rank() > 0:  # only the first process of a run prints
        return status
    if verbose:
        traceback.print_exception(error)
    if str(error):
        print(f"error: {streams.visible(' '.join(str(error).splitlines()))}", file=sys.stderr)
    return status


def _dispatch(words: list[str]) -> int:
    first = words[0] if words else ""
    if first == RANK_COMMAND:
        return _rank(words[1:])
    if first == PART_COMMAND:
        return _parts(words[1:])
    if first == WORK_COMMAND:
        return _work(Path(words[1]))
    if _is_run(words):
        return _run(words[1:] if first == "run" else words)
    if first in _ANSWERS and not _HELP & set(words):
        return _answer(words)
    return _command(words)


def _is_run(words: list[str]) -> bool:
    """True for settings of a run, False for a command."""
    from fusion.config import overrides

    first = words[0] if words else ""
    if first in _HELP:
        return len(words) > 1
    return (
        not words or first == "run" or overrides.is_override(first) or (first.startswith("-") and first != "--version")
    )


def _run(words: list[str]) -> int:
    if _HELP & set(words):
        from fusion.cli.settings_help import of_run

        of_run(words)
        return 0
    from fusion.cli import launch

    return launch.launch(words)


def _answer(words: Sequence[str]) -> int:
    """Run a command that needs no Typer."""
    from fusion import plugins
    from fusion.cli import quick

    plugins.add_commands(app)  # the commands of plugins are topics of help, and are completed, too
    commands = {**dict.fromkeys(_names(app), ()), "zoo": _names(zoo.app)}
    return quick.answer(words, commands, lambda name: _command([name, "--help"]))


def _names(commands: typer.Typer) -> list[str]:
    """Names of the commands of an application."""
    return [str(each.name or getattr(each.callback, "__name__", "")) for each in commands.registered_commands]


def _rank(words: list[str]) -> int:
    """Run a further process of a distributed run, started by Lightning; ignore the words that it adds for Hydra."""
    from fusion.cli import launch

    directory, *rest = [word for word in words if not word.startswith("hydra.")]
    return launch.join(Path(directory), Path(rest[0]) if rest else None)


def _parts(words: list[str]) -> int:
    """Run the process of one method of a comparison, given the directories of its runs."""
    from functools import partial

    from fusion import app as runs
    from fusion.tasks.compare.jobs import work

    return work([Path(word) for word in words], partial(runs.resume, relaunch=True))


def _work(directory: Path) -> int:
    """Run a worker on the many structures of a run, which ends with the process that started it."""
    from fusion.app.work import work

    end_with_parent()
    work(directory)
    return 0


def _command(words: list[str]) -> int:
    from fusion.config.options import suggestion
    from fusion.plugins import add_commands

    for name, reason in add_commands(app).items():
        print(f"the commands of {name} are missing: {reason}", file=sys.stderr)
    command = typer.main.get_command(app)
    names = list(getattr(command, "commands", {}))
    if not words[0].startswith("-") and words[0] not in names:
        raise InputError(f"no command '{words[0]}'.{suggestion(words[0], names)}  Commands: {', '.join(names)}")
    try:
        status = command.main(words, prog_name="fusion", standalone_mode=False)
    except _USAGE_ERRORS as error:
        raise InputError(f"{error.format_message().rstrip('.')} (fusion {words[0]} --help)") from error
    except typer.Abort:
        raise KeyboardInterrupt from None
    return status if isinstance(status, int) else 0


def _show_version(value: bool) -> None:
    if value:
        print(f"fusion {fusion.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command("run")
def run_command() -> None:
    """Run a calculation: fusion run +method=NAME [key=value ...]."""


@app.command("help")
def help_command(words: Words = None) -> None:
    """Explain a task, a method, a group of options, a setting: fusion help task=ts."""
    _answer(["help", *(words or [])])


@app.command()
def methods(words: Annotated[list[str] | None, typer.Argument(metavar="[show NAME]")] = None) -> None:
    """List the methods with their properties, costs, and missing packages, or explain one."""
    _answer(["methods", *(words or [])])


@app.command()
def doctor(
    test: Annotated[bool, typer.Option("--test", help="Also calculate something of every kind, 10 s.")] = False,
) -> int:
    """Examine the installation: versions, caches, plugins, missing extras."""
    return _answer(["doctor", *(["--test"] if test else [])])


@app.command()
def completion(words: Annotated[list[str], typer.Argument(metavar="bash|zsh|fish", show_default=False)]) -> int:
    """Print a script that completes names and settings in a shell."""
    return _answer(["completion", *words])


@app.command()
def resume(run_dir: Directory) -> int:
    """Resume an interrupted run; a finished run prints its result."""
    from fusion.cli import launch

    try:
        return launch.resume(run_dir)
    except KeyboardInterrupt as stop:  # Typer would lose the number of the signal
        return _interrupted(stop)


@app.command()
def report(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR...", show_default=False)],
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one page on all the runs, to be read in a browser.")
    ] = None,
    units: Units = None,
) -> None:
    """Show a run's result and draw its plots again, or write a page on several runs."""
    from fusion.cli.report import report as show
    from fusion.console.units import checked

    show(run_dirs, html, None if units is None else checked(units, "--units"))


@app.command()
def table(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR...", show_default=False)],
    form: Annotated[
        str | None, typer.Option("--format", help="markdown, csv or parquet; default: by the suffix of --output.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="File to write the table to.")] = None,
    units: Units = None,
) -> None:
    """Tabulate the results of runs and sweeps; any folder is searched for runs."""
    from fusion.cli.table import table as show

    show(run_dirs, form, output, units)


@app.command()
def cite(run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR...", show_default=False)]) -> None:
    """Print references, as BibTeX, of what runs used: methods, models, basis sets, programs."""
    from fusion.cli.cite import cite as show

    show(run_dirs)


@app.command(context_settings={"ignore_unknown_options": True})
def serve(
    words: Annotated[list[str], typer.Argument(metavar="+method=NAME [system=S] socket=NAME", show_default=False)],
) -> None:
    """Serve energies and forces to i-PI, or any program with its protocol."""
    from fusion.cli.serve import serve as start

    start(words)


@app.command("new-plugin")
def new_plugin(
    name: Annotated[str, typer.Argument(help="Name of the method, a Python identifier.", show_default=False)],
    kind: Annotated[str, typer.Option(help="potential, functional or ansatz")] = "potential",
    into: Annotated[Path, typer.Option(help="Directory to create the package in.")] = Path("."),
) -> None:
    """Write the package of a new method, complete and installable."""
    from fusion.cli.new_plugin import write

    directory = write(name, kind, into)
    print(f"{directory}: pip install -e {directory}, then fusion +method={name}")
