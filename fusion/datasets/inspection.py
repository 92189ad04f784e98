"""Duplicates and outliers among labelled structures: reported, never removed."""

from __future__ import annotations

import numpy as np

from fusion.datasets.labelled import Labelled

_ROUNDING = 1e-6  # hartree
_FURTHEST = 25.0  # robust standard deviations
_FEW = 10
_SHOWN = 20


def inspect(data: Labelled) -> None:
    """Record duplicates and outliers in `data.report`."""
    _duplicates(data)
    _outliers(data)


def _duplicates(data: Labelled) -> None:
    """Count duplicates, and those whose energy differs from that of the first copy."""
    distinct, first, place, counts = np.unique(data.ids, return_index=True, return_inverse=True, return_counts=True)
    data.report.duplicates = len(data) - len(distinct)
    if data.report.duplicates:
        repeated = counts[place] > 1
        difference = np.abs(data.energy - data.energy[first[place]])[repeated]
        data.report.contradictions = int((difference > _ROUNDING).sum())


def _outliers(data: Labelled) -> None:
    """Record structures whose energy is far from the median of their molecule.

    The part of the energies that depends on the composition alone is subtracted first.
    """
    residuals = data.energy - composition_part(data)
    outliers: list[tuple[int, float]] = []
    order = np.argsort(data.group, kind="stable")
    ends = np.flatnonzero(np.diff(data.group[order])) + 1
    for members in np.split(order, ends):
        outliers += _far(residuals, members[np.isfinite(residuals[members])])
    outliers.sort(key=lambda pair: -pair[1])
    data.report.outliers = [(data.name(index), value) for index, value in outliers[:_SHOWN]]


def composition_part(data: Labelled) -> np.ndarray:
    """Part (M,) of the energies, hartree, that constants for the elements explain, by least squares."""
    elements = np.unique(data.numbers)
    counts = compositions(data, elements)
    finite = np.isfinite(data.energy)
    solution = np.linalg.lstsq(counts[finite], np.asarray(data.energy)[finite], rcond=None)[0] if finite.any() else 0.0
    return counts @ np.broadcast_to(solution, len(elements))


def compositions(data: Labelled, elements: np.ndarray) -> np.ndarray:
    """Numbers of atoms (M, E) of each element of `elements` (atomic numbers)."""
    place = np.zeros(256, dtype=np.int64)
    place[elements] = np.arange(len(elements))
    structure = np.repeat(np.arange(len(data)), data.sizes)
    flat = np.bincount(structure * len(elements) + place[data.numbers], minlength=len(data) * len(elements))
    return flat.reshape(len(data), len(elements)).astype(np.float64)


def _far(values: np.ndarray, members: np.ndarray) -> list[tuple[int, float]]:
    """Members more than `_FURTHEST` robust deviations from the median, each with its number of deviations."""
    if len(members) < _FEW:
        return []
    distance = np.abs(values[members] - np.median(values[members]))
    scale = 1.4826 * float(np.median(distance))
    if scale < _ROUNDING:
        return []
    return [
        (int(members[place]), float(distance[place] / scale)) for place in np.flatnonzero(distance > _FURTHEST * scale)
    ]
