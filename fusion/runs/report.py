"""Last lines of a run, and `fusion report RUN_DIR`.

numpy and matplotlib are imported only for the plots.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from fusion.chemistry import energy_zeros
from fusion.console import units
from fusion.console.format import (
    LABEL_WIDTH,
    count,
    duration,
    header,
    line,
    print_line,
    system_title,
    with_error,
)
from fusion.errors import InputError
from fusion.runs.layout import (
    CHECKPOINT,
    CONFIG,
    DENSITY,
    DENSITY_MATRIX,
    METRICS,
    NATURAL_ORBITALS,
    PAIR_DENSITY,
    RESULT,
)
from fusion.runs.result_rows import energy_columns, property_rows, reference_rows, status_of, verdict_of
from fusion.runs.results import STRUCTURES
from fusion.runs.task import Drawing, Recording, Summarising, Writing

if TYPE_CHECKING:
    from fusion.chemistry.system import System

_RESULT_WIDTH = 25  # width of a value with its error bar, before a remark
_NO_ENERGY = frozenset({"comparison", STRUCTURES})  # results of several methods or structures
Row = tuple[str, str, list[str], str]
"""Label, text, further columns and style of a line of the summary."""
_MARKER_FILES = (RESULT, CONFIG, METRICS)


def title_of(system: System) -> str:
    """Return the `system_title` of a system."""
    cores = _names_of_cores(core.name for core in system.cores)
    return system_title(system.formula, system.n_electrons, system.spin, system.charge, system.pbc, cores)


def _names_of_cores(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(PurePath(name).name for name in names))


def summary(result: dict[str, Any], directory: Path) -> None:
    """Print the last lines of a run from its `result.json`; a status other than `ok` is in capitals, first and last."""
    for label, text, columns, style in list(summary_rows(result, directory)):
        _show(label, text, *columns, style=style)


def lines(result: dict[str, Any], directory: Path) -> tuple[list[str], list[Row]]:
    """Return the parts of a report's title, and the lines below it."""
    return title_parts(result), list(summary_rows(result, directory))


def summary_rows(result: dict[str, Any], directory: Path) -> Iterator[Row]:
    """Yield label, text, further columns and style of each of the last lines."""
    status = status_of(result)
    alarm = "" if status == "ok" else status.upper().replace("_", " ")
    style = "bold red" if alarm else ""
    verdict, message = verdict_of(result), result.get("message")
    if alarm:
        yield alarm, str(message or verdict or "no reason was recorded"), [], style
    if (alarm and _NO_ENERGY.isdisjoint(result)) or result.get("energy"):
        name = energy_zeros.called(result.get("energy_zero"))
        text, *columns = energy_columns(result, alarm)
        yield f"last {name}" if alarm else name, text, columns, style or "bold"
    task = task_of(directory)
    rows = task.rows(result) if isinstance(task, Summarising) else ()
    for row in (*reference_rows(result), *property_rows(result), *rows):
        label, text, *columns = row
        yield label, text, columns, ""
    if alarm:
        yield "converged", f"NO: {verdict or message or alarm.lower()}", [], style
    elif verdict:
        yield "converged", f"yes: {verdict}", [], ""
    if message and not alarm:
        yield "note", message, [], ""
    for warning in result.get("warnings") or ():
        yield "warning", str(warning), [], "yellow"
    more = task.files(directory) if isinstance(task, Writing) else []
    yield "files", "  ".join([*_files(directory), *more]), [], ""


def report(run_dir: Path, shown_in: str | None = None) -> None:
    """Print a run's result and redraw its plots; for an unfinished run, print its progress and how to resume it.

    `shown_in` are the units; None means those of the run. Raises InputError if `run_dir` is not the directory of a run,
    or for damaged files.
    """
    from fusion.runs import trust
    from fusion.runs.results import read_result

    run_dir = Path(run_dir)
    if not any((run_dir / name).is_file() for name in _MARKER_FILES):
        reason = "holds none of " + ", ".join(_MARKER_FILES) if run_dir.is_dir() else "is not a directory"
        raise InputError(f"{run_dir} is not the directory of a run: it {reason}")
    trust.refuse_links(run_dir)
    result = read_result(run_dir)
    with reading(run_dir), units.using(shown_in or units_of(result, run_dir)):
        try:
            redraw(run_dir)
        except OSError as error:  # the directory may belong to another user; reading it is enough
            line("note", f"plots are not redrawn: {error.strerror}")
        if result is None:
            _unfinished(run_dir)
            return
        title, rows = lines(result, run_dir)
        header(*title, notes=(str(run_dir),))
        for label, text, columns, style in rows:
            _show(label, text, *columns, style=style)


def units_of(result: dict[str, Any] | None, run_dir: Path) -> str:
    """Units of a run by its settings; those of a run of an older version are atomic. Raises InputError."""
    settings = _settings(run_dir) if result is None else result.get("settings") or {}
    return units.checked(settings.get("units", units.HARTREE), f"{run_dir}: units")


@contextmanager
def reading(run_dir: Path) -> Iterator[None]:
    """Raise InputError if files of a run have contents that no run writes."""
    from fusion.runs.results import check_table

    check_table(run_dir / METRICS)
    try:
        yield
    except (InputError, OSError):
        raise
    except Exception as error:  # damaged files can raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"{run_dir}: a file of the run is damaged ({reason})") from error


def redraw(run_dir: Path) -> None:
    """Draw the plots of the run's task from the files in its directory, if it has data to draw."""
    task = task_of(run_dir)
    if isinstance(task, Drawing):
        task.draw(run_dir)


def task_of(run_dir: Path) -> Any:
    """Return the class of the run's task; None if it is not available (a removed plugin).

    Raises InputError for unreadable settings.
    """
    from fusion.runs import trust

    task = _settings(run_dir).get("task")
    target = task.get("_target_") if isinstance(task, dict) else None
    return trust.task_class(target, run_dir / CONFIG) if target else None


def _settings(run_dir: Path) -> dict[str, Any]:
    """Return the settings of a run; empty without its file. Raises InputError for unreadable settings."""
    import yaml

    from fusion.config.options import read_yaml

    file = run_dir / CONFIG
    try:
        return read_yaml(file) if file.is_file() else {}
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {' '.join(str(error).split())}") from None


def _show(label: str, text: str, *columns: str, style: str = "") -> None:
    """Print a line of the summary with aligned columns."""
    if columns:
        text = f"{text:<{_RESULT_WIDTH - 2}}  " + "    ".join(columns)
    print_line(f"{label:<{LABEL_WIDTH - 1}} {text}", style)


def _files(directory: Path) -> list[str]:
    """Names of a run's files, in the order of interest."""
    tables = (DENSITY, PAIR_DENSITY, NATURAL_ORBITALS, DENSITY_MATRIX)
    patterns = (RESULT, METRICS, *tables, "*.png", CHECKPOINT.as_posix())
    return [path.relative_to(directory).as_posix() for pattern in patterns for path in sorted(directory.glob(pattern))]


def title_parts(result: dict[str, Any]) -> list[str]:
    """Return the parts of a title: method, system, task and time, as far as a `result.json` states them."""
    system = result.get("system") or {}
    from ase.data import atomic_numbers

    charge, spin = int(system.get("charge", 0)), int(system.get("spin", 0))
    electrons = sum(atomic_numbers[symbol] for symbol in system.get("symbols", [])) - charge
    ecp = system.get("ecp") or {}
    electrons -= sum(int(ecp[symbol]["core_electrons"]) for symbol in system.get("symbols", []) if symbol in ecp)
    cores = _names_of_cores(str(core["name"]) for core in ecp.values())
    formula, pbc = system.get("formula", "?"), system.get("pbc") or (False,) * 3
    title = system_title(formula, electrons, spin, charge, pbc, cores)
    parts = [str(result.get("method")), title, str(result.get("task"))]
    if "comparison" in result:  # it has several methods and perhaps several systems
        parts = [str(result["comparison"]["title"]), str(result["task"])]
    if STRUCTURES in result:
        part = result[STRUCTURES]
        parts = [
            str(result.get("method")),
            f"{count(part['number'], 'structure')} of {part['source']}",
            str(result["task"]),
        ]
    seconds = (result.get("timing") or {}).get("wall_s")
    return parts if seconds is None else [*parts, duration(seconds)]


def _unfinished(run_dir: Path) -> None:
    """Print the progress of an unfinished run and how to resume it, or that of a run in progress."""
    for label, text, _, style in unfinished_rows(run_dir):
        line(label, text, style=style)


def unfinished_rows(run_dir: Path) -> Iterator[Row]:
    """Yield the lines of a run without a result: its progress, how to resume it, and its files."""
    from fusion.runs.directory import holder
    from fusion.runs.metrics_table import last_row

    last = last_row(run_dir)
    checkpoint = run_dir / CHECKPOINT
    position = f"{last['phase']} step {float(last['step']):.0f}" if last else "before the first recorded step"
    energy = f", E = {with_error(last['energy'], last['stderr'])} Ha" if last and math.isfinite(last["energy"]) else ""
    task = task_of(run_dir)
    record = (task.stands(run_dir) if isinstance(task, Recording) else None) or f"{position}{energy}"
    running = holder(run_dir)
    if running is not None:
        yield "RUNNING", f"{running}; last record: {record}", [], "bold"
    else:
        start = f"continues from {CHECKPOINT}" if checkpoint.is_file() else "no checkpoint: starts from the beginning"
        yield "UNFINISHED", f"no result yet; last record: {record}", [], "bold yellow"
        yield "to continue", f"fusion resume {run_dir}   ({start})", [], ""
    yield "files", "  ".join(_files(run_dir)) or "none", [], ""
