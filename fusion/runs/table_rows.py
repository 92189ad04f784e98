"""Row of a run in a table: the same for `fusion table` and for data frames of Python."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fusion.console.units import Units, column
from fusion.runs.collected import CollectedRun
from fusion.runs.main_numbers import main_numbers

Row = dict[str, Any]


def row(run: CollectedRun, settings: Sequence[str]) -> Row:
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


def in_units(cells: Row, units: Units) -> Row:
    """Return the cells with energies and forces in `units`, which are part of the names of columns."""
    renamed = {name: column(name, units) for name in cells}
    return {
        renamed[name][0]: value * renamed[name][1] if isinstance(value, float) and renamed[name][1] != 1.0 else value
        for name, value in cells.items()
    }
