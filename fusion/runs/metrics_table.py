"""Rows of metrics.csv: phases, steps and energies of a training run."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from fusion.runs.layout import METRICS

PHASES = ("pretrain", "optimise", "evaluate")
NUMBERS = ("energy", "stderr", "variance")


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """Rows of `metrics.csv`, ordered by phase and step; missing numbers are nan.

    A killed run leaves an incomplete last line, which is dropped. A resumed run repeats steps, whose last record
    counts. Without the file, or without its columns `step` and `phase`, the list is empty.
    """
    path = directory / METRICS
    if not path.is_file():
        return []
    rows: dict[tuple[int, float], dict[str, Any]] = {}
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for record in csv.DictReader(file):
            step, phase = _number(record.get("step")), record.get("phase")
            if phase in PHASES and math.isfinite(step) and None not in record.values():
                numbers = {name: _number(record.get(name)) for name in NUMBERS}
                rows[PHASES.index(phase), step] = {"phase": phase, "step": step, **numbers}
    return [rows[key] for key in sorted(rows)]


def last_row(directory: Path) -> dict[str, Any] | None:
    """Return the latest recorded iteration, or None."""
    rows = read_metrics(directory)
    return rows[-1] if rows else None


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan
