"""Labels of a structure as a whole beside its energy, stress and dipole: which it has, and the unit of their errors."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from fusion.atomic import write_atomically
from fusion.units import DEBYE_PER_ATOMIC_DIPOLE, EV_ANGSTROM3_PER_HARTREE_BOHR3

if TYPE_CHECKING:
    from fusion.datasets import Labelled


@dataclass(frozen=True)
class Kind:
    """One of them, with its unit for people and in the names of numbers, and that unit per atomic unit."""

    name: str
    """Of the property, and of the column of `Labelled`."""
    plural: str
    shape: tuple[int, ...]
    text: str
    key: str
    scale: float
    atomic: str

    @property
    def file(self) -> str:
        """Labels and predictions in atomic units."""
        return f"{self.plural}.npz"

    def labels(self, data: Labelled) -> np.ndarray | None:
        """(M, ...) atomic units; NaN where there is none, or none that means anything: the stress of what is not
        periodic in three directions, the dipole of what is in any. None where no structure has the column."""
        column: np.ndarray | None = getattr(data, self.name)
        if column is None:
            return None
        periodic = np.zeros((len(data), 3), dtype=bool) if data.pbc is None else np.asarray(data.pbc)
        sensible = periodic.all(axis=1) if self is STRESS else ~periodic.any(axis=1)
        if sensible.all():
            return column
        return np.where(sensible.reshape(-1, *[1] * len(self.shape)), column, np.nan)

    def known(self, values: np.ndarray) -> np.ndarray:
        """(M,) bool: whether all components (M, ...) are numbers."""
        return np.isfinite(values).reshape(len(values), -1).all(axis=1)

    def errors(self, predicted: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Prediction less label, of those that have one, in the unit."""
        some = self.known(label)
        return self.scale * (predicted[some] - label[some])

    def write(self, directory: Path, predicted: np.ndarray | None, label: np.ndarray | None, rows: np.ndarray) -> None:
        """The file of those that have both, of the structures `rows` (n,) by number; none where there is nothing."""
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
    """Those of `properties` that some structure has, with their labels."""
    for kind in KINDS:
        label = kind.labels(data) if kind.name in properties else None
        if label is not None and kind.known(label).any():
            yield kind, label
