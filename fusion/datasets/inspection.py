"""Duplicates and outliers of labelled structures, reported and never removed."""

from __future__ import annotations

import numpy as np

from fusion.datasets.labelled import Labelled

_ROUNDING = 1e-6  # hartree
_FURTHEST = 25.0  # robust standard deviations
_FEW = 10
_SHOWN = 20


def inspect(data: Labelled) -> None:
    """Count duplicates and outliers into `data.report`."""
    _duplicates(data)
    _outliers(data)


def _duplicates(data: Labelled) -> None:
    """Structures that are there more than once, and how many of these have another energy than the first."""
    distinct, first, place, counts = np.unique(data.ids, return_index=True, return_inverse=True, return_counts=True)
    data.report.duplicates = len(data) - len(distinct)
    if data.report.duplicates:
        repeated = counts[place] > 1
        difference = np.abs(data.energy - data.energy[first[place]])[repeated]
        data.report.contradictions = int((difference > _ROUNDING).sum())


def _outliers(data: Labelled) -> None:
    """Structures whose energy is far from those of the others of the same molecule, or of the same set where there are
    few: what atoms explain is taken off first."""
    rest = data.energy - composition_part(data)
    found: list[tuple[int, float]] = []
    order = np.argsort(data.group, kind="stable")
    ends = np.flatnonzero(np.diff(data.group[order])) + 1
    for members in np.split(order, ends):
        found += _far(rest, members[np.isfinite(rest[members])])
    found.sort(key=lambda pair: -pair[1])
    data.report.outliers = [(data.name(index), value) for index, value in found[:_SHOWN]]


def composition_part(data: Labelled) -> np.ndarray:
    """(M,) hartree: what constants for the elements explain of the energies, by least squares."""
    elements = np.unique(data.numbers)
    counts = compositions(data, elements)
    known = np.isfinite(data.energy)
    solution = np.linalg.lstsq(counts[known], np.asarray(data.energy)[known], rcond=None)[0] if known.any() else 0.0
    return counts @ np.broadcast_to(solution, len(elements))


def compositions(data: Labelled, elements: np.ndarray) -> np.ndarray:
    """(M, E) atoms of each of `elements` (atomic numbers)."""
    place = np.zeros(256, dtype=np.int64)
    place[elements] = np.arange(len(elements))
    structure = np.repeat(np.arange(len(data)), data.sizes)
    flat = np.bincount(structure * len(elements) + place[data.numbers], minlength=len(data) * len(elements))
    return flat.reshape(len(data), len(elements)).astype(np.float64)


def _far(values: np.ndarray, members: np.ndarray) -> list[tuple[int, float]]:
    """Members more than `_FURTHEST` robust deviations above or below the median, with how many."""
    if len(members) < _FEW:
        return []
    distance = np.abs(values[members] - np.median(values[members]))
    scale = 1.4826 * float(np.median(distance))
    if scale < _ROUNDING:
        return []
    return [
        (int(members[place]), float(distance[place] / scale)) for place in np.flatnonzero(distance > _FURTHEST * scale)
    ]
