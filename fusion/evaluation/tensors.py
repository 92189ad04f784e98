"""Stress and dipole labels: the structures that have them, and the units of their errors."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from fusion.chemistry.units import DEBYE_PER_ATOMIC_DIPOLE, EV_ANGSTROM3_PER_HARTREE_BOHR3
from fusion.files.atomic import write_atomically

if TYPE_CHECKING:
    from fusion.datasets import Labelled


@dataclass(frozen=True)
class Kind:
    """A kind of tensor label: its display unit `text`, that unit in key names (`key`) and per atomic unit (`scale`),
    and the atomic unit in column names (`atomic`)."""

    name: str
    """Name of the property and of the column of `Labelled`."""
    plural: str
    shape: tuple[int, ...]
    text: str
    key: str
    scale: float
    atomic: str

    @property
    def file(self) -> str:
        """Name of the file with labels and predictions in atomic units."""
        return f"{self.plural}.npz"

    def labels(self, data: Labelled) -> np.ndarray | None:
        """Labels (M, ...) in atomic units; None where the data do not have the column.

        NaN where a label is missing or undefined: the stress of a structure that is not periodic in all three
        directions, and the dipole of one that is periodic in any.
        """
        column: np.ndarray | None = getattr(data, self.name)
        if column is None:
            return None
        periodic = np.zeros((len(data), 3), dtype=bool) if data.pbc is None else np.asarray(data.pbc)
        defined = periodic.all(axis=1) if self is STRESS else ~periodic.any(axis=1)
        if defined.all():
            return column
        return np.where(defined.reshape(-1, *[1] * len(self.shape)), column, np.nan)

    def known(self, values: np.ndarray) -> np.ndarray:
        """Mask (M,) of the structures whose components (M, ...) are all finite."""
        return np.isfinite(values).reshape(len(values), -1).all(axis=1)

    def errors(self, predicted: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Prediction minus label of the structures that have a label, in the display unit."""
        labelled_rows = self.known(label)
        return self.scale * (predicted[labelled_rows] - label[labelled_rows])

    def write(self, directory: Path, predicted: np.ndarray | None, label: np.ndarray | None, rows: np.ndarray) -> None:
        """Write the structures, numbered by `rows` (n,), that have label and prediction; no file without any."""
        path = directory / self.file
        both = np.zeros(0, dtype=bool) if predicted is None or label is None else self.known(predicted - label)
        if predicted is None or label is None or not both.any():
            path.unlink(missing_ok=True)
            return
        buffer = io.BytesIO()
        np.savez_compressed(buffer, structure=rows[both], label=label[both], predicted=predicted[both])
        write_atomically(path, buffer.getvalue())


STRESS: Final = Kind(
    "stress", "stress", (3, 3), "meV/Å³", "mev_angstrom3", 1000.0 * EV_ANGSTROM3_PER_HARTREE_BOHR3, "hartree_per_bohr3"
)
DIPOLE: Final = Kind("dipole", "dipoles", (3,), "debye", "debye", DEBYE_PER_ATOMIC_DIPOLE, "e_bohr")
KINDS: Final = (STRESS, DIPOLE)


def labelled(data: Labelled, properties: Collection[str]) -> Iterator[tuple[Kind, np.ndarray]]:
    """Kinds among `properties` for which at least one structure has a label, with the labels (M, ...)."""
    for kind in KINDS:
        label = kind.labels(data) if kind.name in properties else None
        if label is not None and kind.known(label).any():
            yield kind, label
