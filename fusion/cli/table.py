"""`fusion table RUN_DIR...`: the results of runs and sweeps in one table, as Markdown, CSV or Parquet."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fusion.chemistry import energy_zeros
from fusion.config.options import suggestion
from fusion.console import streams
from fusion.console.format import count, with_error
from fusion.errors import InputError
from fusion.files.atomic import write_atomically
from fusion.runs.collected import CollectedRun, collect, differing_settings
from fusion.runs.main_numbers import main_numbers

FORMATS = ("markdown", "csv", "parquet")
_BY_SUFFIX = {".csv": "csv", ".parquet": "parquet"}
_LONGEST_CELL = 40  # characters of a setting in Markdown
_ONLY_CSV = frozenset({"stderr_hartree", "reference_hartree"})
"""Columns that Markdown leaves out: it shows the error beside the energy."""
_TRIVIAL = {"charge": 0, "spin": 0, "energy_zero": energy_zeros.TOTAL}
"""Columns that Markdown leaves out if all runs have this value."""
_LAST = ("wall_s", "seed", "directory")
_DIGITS = {"spread_hartree": ".2g", "difference_mhartree": "+.2f", "wall_s": ".1f"}

Row = dict[str, Any]


def table(places: Sequence[Path], form: str | None, output: Path | None) -> None:
    """Print the table of the runs in `places`, or write it to `output`.

    `form` is one of `FORMATS`; None means CSV or Parquet for an `output` with the suffix .csv or .parquet, otherwise
    Markdown. Raises InputError if there are no runs, or for Parquet without an `output` or without pyarrow.
    """
    form = form or _BY_SUFFIX.get("" if output is None else output.suffix, "markdown")
    if form not in FORMATS:
        raise InputError(f"--format {form}: choose {', '.join(FORMATS)}.{suggestion(form, FORMATS)}")
    if form == "parquet" and output is None:
        raise InputError("--format parquet: a binary table needs --output FILE.parquet")
    runs = collect(places)
    if not runs:
        raise InputError(f"no runs in {', '.join(map(str, places))}: no folder there has a result or settings of a run")
    settings = differing_settings(runs)
    rows = [_row(run, settings) for run in runs]
    first, numbers = list(_row(runs[0], ())), dict.fromkeys(name for run in runs for name in main_numbers(run.document))
    order = [*(name for name in first if name not in {*numbers, *_LAST}), *numbers, *settings, *_LAST]
    columns = [name for name in order if any(row.get(name) is not None for row in rows)]
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


def _row(run: CollectedRun, settings: Sequence[str]) -> Row:
    """Cells of a run by column; None where the run has no such value."""
    document = run.document
    energy, reference = document.get("energy") or {}, document.get("reference") or {}
    system = document.get("system") or {}
    return {
        "method": _method(run),
        "weights": _weights(run),
        "task": document.get("task") or run.settings.get("task.name"),
        "system": system.get("name") or run.settings.get("system.name"),
        "formula": system.get("formula"),
        "charge": system.get("charge", run.settings.get("system.charge")),
        "spin": system.get("spin", run.settings.get("system.spin")),
        "status": run.status,
        "energy_hartree": energy.get("value"),
        "stderr_hartree": energy.get("stderr"),
        "spread_hartree": document.get("energy_std_hartree"),
        "energy_zero": document.get("energy_zero"),
        "reference_hartree": reference.get("value"),
        "difference_mhartree": reference.get("difference_mhartree"),
        **main_numbers(document),
        **{key: _plain(run.settings.get(key)) for key in settings},
        "wall_s": (document.get("timing") or {}).get("wall_s"),
        "seed": run.settings.get("seed"),
        "directory": str(run.directory),
    }


def _method(run: CollectedRun) -> str | None:
    """Name of the method, or the names of all methods of a comparison."""
    entries = run.settings.get("methods")
    if isinstance(entries, list):
        names = [entry.get("method") if isinstance(entry, Mapping) else entry for entry in entries]
        return ", ".join(map(str, names))
    name = run.document.get("method") or run.settings.get("method.name")
    return None if name is None else str(name)


def _weights(run: CollectedRun) -> str | None:
    weights = run.document.get("weights")
    if weights:
        return f"{weights.get('name')}@{weights.get('version')}"
    name = run.settings.get("weights")
    return None if name is None else str(name)


def _plain(value: Any) -> Any:
    """Text, numbers and None unchanged; lists and truth values as on the command line."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | bool) else value


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
    shown = [name for name in columns if name not in _ONLY_CSV and not _is_trivial(rows, name)]
    lines = [shown, *([_cell(name, row) for name in shown] for row in rows)]
    lines = [[streams.visible(" ".join(cell.split())).replace("|", r"\|") for cell in line] for line in lines]
    widths = [max(len(line[index]) for line in lines) for index in range(len(shown))]
    lines.insert(1, ["-" * width for width in widths])
    return "".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |\n"
        for line in lines
    )


def _is_trivial(rows: Sequence[Row], name: str) -> bool:
    return name in _TRIVIAL and all(row.get(name) in (None, _TRIVIAL[name]) for row in rows)


def _cell(name: str, row: Row) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if name == "energy_hartree":
        return with_error(value, row.get("stderr_hartree"))
    if name in _DIGITS:
        return format(value, _DIGITS[name])
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if name == "directory" or len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 1]}…"
