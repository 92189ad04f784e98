"""What the training asks of labelled structures: the part of `fusion.datasets` that it needs. Atomic units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from fusion.potentials.batch import Batch
from fusion.system import System


class Structures(Protocol):
    """M structures with N atoms in all, one structure after the other."""

    @property
    def numbers(self) -> np.ndarray:
        """(N,) atomic numbers."""
        ...

    @property
    def offsets(self) -> np.ndarray:
        """(M + 1,) int64: where the atoms of each begin."""
        ...

    @property
    def energy(self) -> np.ndarray:
        """(M,) hartree, NaN where there is none."""
        ...

    @property
    def forces(self) -> np.ndarray | None:
        """(N, 3) hartree/bohr, NaN where there are none."""
        ...

    @property
    def stress(self) -> np.ndarray | None:
        """(M, 3, 3) hartree/bohr^3, NaN where there is none."""
        ...

    @property
    def cell(self) -> np.ndarray | None:
        """(M, 3, 3) bohr."""
        ...

    @property
    def group(self) -> np.ndarray:
        """(M,) index into `groups`."""
        ...

    @property
    def groups(self) -> Sequence[str]:
        """Names of molecules."""
        ...

    @property
    def source(self) -> np.ndarray:
        """(M,) which data set of a mixture."""
        ...

    @property
    def ids(self) -> np.ndarray:
        """(M,) what a structure is, wherever it stands."""
        ...

    @property
    def energy_zero(self) -> str:
        """`total` or `atomization`."""
        ...

    def __len__(self) -> int: ...

    def system(self, index: int) -> System:
        """One structure."""
        ...

    def batch(self, indices: np.ndarray, dtype: torch.dtype) -> Batch:
        """Several, padded."""
        ...


class Parts(Protocol):
    """Indices of structures for training, validation and test."""

    @property
    def train(self) -> np.ndarray: ...

    @property
    def validation(self) -> np.ndarray: ...

    @property
    def test(self) -> np.ndarray: ...
