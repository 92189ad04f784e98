"""Tables of a run as columns, for data frames."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusion.console.units import Units, column
from fusion.errors import InputError
from fusion.runs.collected import CollectedRun
from fusion.runs.table_rows import in_units, row

_TABLES = ("comparison.csv", "structures.csv", "scan.csv", "conformers.csv", "thermochemistry.csv", "md.csv")
"""Tables of tasks with many rows."""
_MODES = (
    "frequencies_cm1", "frequencies_std_cm1", "frequencies_stderr_cm1", "ir_intensities_km_per_mol",
    "raman_activities_angstrom4_per_dalton", "depolarization_ratios",
)  # fmt: skip

Columns = dict[str, list[Any]]


def columns_of(directory: Path, document: Mapping[str, Any], units: Units, table: str | None) -> Columns:
    """Columns of the CSV file `table` of the run, or of its main table. Raises InputError without that file."""
    files = sorted(path.name for path in directory.glob("*.csv"))
    if table is not None:
        name = f"{table.removesuffix('.csv')}.csv"
        if name not in files:
            raise InputError(f"no table {table!r} in {directory}  Tables: {', '.join(files) or 'none'}")
        return _in_units(_read(directory / name), units)
    main = next((name for name in _TABLES if name in files), None)
    if main is not None:
        return _in_units(_read(directory / main), units)
    if document.get("frequencies_cm1"):
        return _modes(document)
    states = (document.get("excited") or {}).get("states")
    rows = states if states else [row(CollectedRun(directory, str(document.get("status")), document, {}), ())]
    return _columns([in_units(cells, units) for cells in rows])


def _modes(document: Mapping[str, Any]) -> Columns:
    """Columns of the modes of a vibrational analysis, numbered as in its report."""
    vibrations = document["vibrations"]
    number = len(document["frequencies_cm1"])
    first = vibrations["removed_translations_and_rotations"] + 1
    lists = {
        **{key: document.get(key) for key in _MODES},
        "reduced_mass_dalton": vibrations.get("reduced_masses_dalton"),
    }
    chosen = {key: list(values) for key, values in lists.items() if values and len(values) == number}
    return {"mode": list(range(first, first + number)), **chosen}


def _columns(rows: Sequence[Mapping[str, Any]]) -> Columns:
    """Columns of rows, without those that have no value."""
    names = dict.fromkeys(name for cells in rows for name in cells)
    columns = {name: [cells.get(name) for cells in rows] for name in names}
    return {name: cells for name, cells in columns.items() if any(cell is not None for cell in cells)}


def _read(file: Path) -> Columns:
    """Columns of a CSV file without those that are empty; their numbers become numbers."""
    with file.open(newline="", encoding="utf-8") as lines:
        header, *rows = csv.reader(lines)
    columns = {name: [cells[index] for cells in rows] for index, name in enumerate(header)}
    return {name: _typed(cells) for name, cells in columns.items() if any(cells)}


def _typed(cells: Sequence[str]) -> list[Any]:
    """Whole numbers, numbers (NaN for an empty cell), or texts."""
    for kind in (int, float):
        try:
            return [kind(cell or ("nan" if kind is float else "")) for cell in cells]
        except ValueError:
            continue
    return list(cells)


def _in_units(columns: Columns, units: Units) -> Columns:
    converted: Columns = {}
    for name, cells in columns.items():
        shown, factor = column(name, units)
        converted[shown] = cells if factor == 1.0 else [c * factor if isinstance(c, int | float) else c for c in cells]
    return converted
