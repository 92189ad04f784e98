"""`fusion table RUN_DIR...`: the results of runs and sweeps in one table, as Markdown, CSV or Parquet."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fusion.chemistry import energy_zeros
from fusion.config.options import suggestion
from fusion.console import streams, units
from fusion.console.format import count, with_error
from fusion.errors import InputError
from fusion.files.atomic import write_atomically
from fusion.runs.collected import CollectedRun, collect_some, differing_settings
from fusion.runs.main_numbers import main_numbers
from fusion.runs.table_rows import Row, in_units, row

FORMATS = ("markdown", "csv", "parquet")
_BY_SUFFIX = {".csv": "csv", ".parquet": "parquet"}
_LONGEST_CELL = 40  # characters of a setting in Markdown
_ONLY_CSV = ("stderr", "reference")
"""Columns, without their unit, that Markdown leaves out: it shows the error beside the energy."""
_ERROR = "_stderr"
"""Part of the name of a column with the statistical error of another column, beside whose numbers Markdown shows it."""
_TRIVIAL = {"charge": 0, "spin": 0, "energy_zero": energy_zeros.TOTAL}
"""Columns that Markdown leaves out if all runs have this value."""
_SUFFIXES = frozenset({"s", "hartree", "mhartree", "ev", "kcal_mol", "kj_mol"})
_LAST = ("wall_s", "seed", "directory")
_DIGITS = {"spread": ".2g", "difference": "+.2f", "wall": ".1f"}
"""Formats of columns by their names without unit."""


def table(places: Sequence[Path], form: str | None, output: Path | None, shown_in: str | None = None) -> None:
    """Print the table of the runs in `places`, or write it to `output`.

    `form` is one of `FORMATS`; None means CSV or Parquet for an `output` with the suffix .csv or .parquet, otherwise
    Markdown. `shown_in` are its units; None means those that all runs set, in Markdown, and atomic units otherwise.
    Raises InputError if there are no runs, or for Parquet without an `output` or without pyarrow.
    """
    form = form or _BY_SUFFIX.get("" if output is None else output.suffix, "markdown")
    if form not in FORMATS:
        raise InputError(f"--format {form}: choose {', '.join(FORMATS)}.{suggestion(form, FORMATS)}")
    if form == "parquet" and output is None:
        raise InputError("--format parquet: a binary table needs --output FILE.parquet")
    if shown_in is not None:
        shown_in = units.checked(shown_in, "--units")
    runs = collect_some(places)
    columns, rows = _table(runs, units.HARTREE if form != "markdown" and shown_in is None else _units(runs, shown_in))
    writers: Mapping[str, Callable[[Sequence[str], Sequence[Row]], str | bytes]]
    writers = {"markdown": _markdown, "csv": _csv, "parquet": _parquet}
    content = writers[form](columns, rows)
    if output is None:
        streams.any_text(sys.stdout)
        print(content, end="")
        return
    try:
        write_atomically(output, content)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}") from error
    print(f"{output}   {count(len(rows), 'run')}")


def overview(runs: Sequence[CollectedRun], shown_in: str | None = None) -> tuple[list[str], list[list[str]]]:
    """Return the header and the cells of the table of `runs` as it is read, without their directories."""
    columns, rows = _table(runs, _units(runs, shown_in))
    shown = [name for name in _shown(columns, rows) if name != "directory"]
    return shown, [[_cell(name, row) for name in shown] for row in rows]


def _table(runs: Sequence[CollectedRun], shown_in: str) -> tuple[list[str], list[Row]]:
    """Columns in which at least one run has a value, and a row per run, in the units `shown_in`."""
    settings, chosen = differing_settings(runs), units.Units(shown_in)
    rows = [in_units(row(run, settings), chosen) for run in runs]
    first = list(in_units(row(runs[0], ()), chosen))
    numbers = dict.fromkeys(name for run in runs for name in in_units(main_numbers(run.document), chosen))
    order = [*(name for name in first if name not in {*numbers, *_LAST}), *numbers, *settings, *_LAST]
    return [name for name in order if any(row.get(name) is not None for row in rows)], rows


def _units(runs: Sequence[CollectedRun], shown_in: str | None) -> str:
    """Units of a table: those given, or those that all runs have."""
    if shown_in is not None:
        return shown_in
    stated = {run.settings.get("units", units.HARTREE) for run in runs}
    return stated.pop() if len(stated) == 1 and stated <= set(units.NAMES) else units.HARTREE


def _csv(columns: Sequence[str], rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)
    return text.getvalue()


def _parquet(columns: Sequence[str], rows: Sequence[Row]) -> bytes:
    """Columns of numbers or of text; a column that has both, such as a setting, is text."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError("Parquet needs pyarrow: pip install 'aiqm-fusion[parquet]', or --output FILE.csv") from error
    table = {name: [row.get(name) for row in rows] for name in columns}
    for name, values in table.items():
        if any(isinstance(value, str) for value in values):
            table[name] = [None if value is None else str(value) for value in values]
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(table), file)
    return file.getvalue()


def _markdown(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Table with aligned columns, to be read in a terminal as well."""
    shown = _shown(columns, rows)
    lines = [shown, *([_cell(name, row) for name in shown] for row in rows)]
    lines = [[streams.visible(" ".join(cell.split())).replace("|", r"\|") for cell in line] for line in lines]
    widths = [max(len(line[index]) for line in lines) for index in range(len(shown))]
    lines.insert(1, ["-" * width for width in widths])
    return "".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |\n"
        for line in lines
    )


def _shown(columns: Sequence[str], rows: Sequence[Row]) -> list[str]:
    hidden = [name for name in columns if _stem(name) in _ONLY_CSV or _ERROR in name or _is_trivial(rows, name)]
    return [name for name in columns if name not in hidden]


def _is_trivial(rows: Sequence[Row], name: str) -> bool:
    return name in _TRIVIAL and all(row.get(name) in (None, _TRIVIAL[name]) for row in rows)


def _cell(name: str, row: Row) -> str:
    value = row.get(name)
    if value is None:
        return ""
    stem = _stem(name)
    if stem == "energy":
        return with_error(
            value, row.get(name.replace("energy", "stderr")), decimals=6 if name == "energy_hartree" else 4
        )
    error = next((row[key] for key in row if _ERROR in key and key.replace(_ERROR, "") == name), None)
    if error is not None:
        return with_error(value, error, decimals=4)
    if stem in _DIGITS:
        return format(value, _DIGITS[stem])
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if name == "directory" or len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 1]}…"


def _stem(name: str) -> str:
    """Name of a column without its unit: energy for energy_ev, wall for wall_s."""
    stem, _, unit = name.partition("_")
    return stem if unit in _SUFFIXES else name
