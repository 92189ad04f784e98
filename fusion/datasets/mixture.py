"""Mixtures of data sets: each structure has the index of its set, and each set has its own self energies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fusion.datasets.labelled import Labelled
from fusion.datasets.report import Report
from fusion.errors import InputError


def mixed(parts: Sequence[Labelled]) -> Labelled:
    """Concatenate the structures of all `parts`. Raises InputError for no part, or for different energy zeros."""
    if not parts:
        raise InputError("data=[NAME, FILE, ...] needs at least one entry")
    zeros = {part.energy_zero for part in parts}
    if len(zeros) > 1:
        raise InputError("data with total energies and data with atomisation energies cannot be mixed")
    names = _distinct([name for part in parts for name in part.sources])
    groups = tuple(dict.fromkeys(group for part in parts for group in part.groups))
    place = {group: number for number, group in enumerate(groups)}
    first = np.cumsum([0, *(len(part.sources) for part in parts)])
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([part.sizes for part in parts]))]).astype(np.int64)
    return replace(
        parts[0],
        numbers=np.concatenate([part.numbers for part in parts]),
        positions=np.concatenate([part.positions for part in parts]),
        offsets=offsets,
        forces=_joined(parts, "forces", "positions", np.nan),
        cell=_joined(parts, "cell", "cell", 0.0),
        pbc=_joined(parts, "pbc", "pbc", 0.0),
        stress=_joined(parts, "stress", "stress", np.nan),
        dipole=_joined(parts, "dipole", "dipole", np.nan),
        fold=_joined(parts, "fold", "fold", -1),
        group=np.concatenate([np.array([place[group] for group in p.groups], np.int32)[p.group] for p in parts]),
        groups=groups,
        source=np.concatenate([p.source + start for p, start in zip(parts, first, strict=False)]).astype(np.int16),
        sources=tuple(names),
        energy=_all(parts, "energy"),
        charge=_all(parts, "charge"),
        spin=_all(parts, "spin"),
        ids=_all(parts, "ids"),
        place=_all(parts, "place"),
        report=_reports(parts),
    )


def _all(parts: Sequence[Labelled], name: str) -> np.ndarray:
    return np.concatenate([getattr(part, name) for part in parts])


_SHAPES: dict[str, tuple[int, ...]] = {
    "forces": (3,), "cell": (3, 3), "pbc": (3,), "stress": (3, 3), "dipole": (3,), "fold": ()
}  # fmt: skip


def _joined(parts: Sequence[Labelled], name: str, rows: str, missing: float) -> np.ndarray | None:
    """Concatenate a column that some of the parts may lack, filled there with `missing`."""
    columns = [getattr(part, name) for part in parts]
    template = next((array for array in columns if array is not None), None)
    if template is None:
        return None
    lengths = [len(part.positions) if rows == "positions" else len(part) for part in parts]
    filled = [
        np.full((length, *_SHAPES[name]), missing).astype(template.dtype) if array is None else array
        for array, length in zip(columns, lengths, strict=True)
    ]
    return np.concatenate(filled)


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names, with a number appended to repeated ones."""
    distinct: list[str] = []
    for name in names:
        number, candidate = 2, name
        while candidate in distinct:
            candidate, number = f"{name}-{number}", number + 1
        distinct.append(candidate)
    return distinct


def _reports(parts: Sequence[Labelled]) -> Report:
    total = Report()
    for part in parts:
        report, name = part.report, part.sources[0]
        total.read += report.read
        total.left_out += [(f"{name}: {place}", reason) for place, reason in report.left_out]
        total.duplicates += report.duplicates
        total.contradictions += report.contradictions
        total.outliers += [(f"{name}: {place}", value) for place, value in report.outliers]
        total.checks += [f"{name}: {text}" for text in report.checks]
        for total_counts, counts in ((total.excluded, report.excluded), (total.without, report.without)):
            for key, number in counts.items():
                total_counts[key] = total_counts.get(key, 0) + number
    levels = [part.report.level_of_theory for part in parts if part.report.level_of_theory]
    total.level_of_theory = " + ".join(dict.fromkeys(levels)) if len(levels) == len(parts) else None
    return total
