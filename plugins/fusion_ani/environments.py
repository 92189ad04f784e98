"""Environment vectors of the atoms of a data set, computed once and kept if they fit into memory, and their Jacobian.

The vectors have no parameters, so training the networks does not change them. Atomic units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from fusion_ani.aev import Environment
from fusion_ani.fused import ATOMS_PER_THREAD, constants, in_threads
from fusion_ani.pairs import Pairs

_PARTS = 4  # of the rows of a batch, for each thread


@dataclass(frozen=True)
class Rows:
    """The atoms of a batch of B structures in the order in which networks see them: sorted by element."""

    places: np.ndarray
    """(N,) indices into all atoms of the data."""
    order: np.ndarray
    """(N,) indices into the atoms of the batch in its order, one structure after the other."""
    system: np.ndarray
    """(N,) index of the structure in the batch."""
    species: np.ndarray
    """(N,) indices of the model's elements, ascending."""
    groups: tuple[tuple[int, slice], ...]
    """Each element with its rows."""

    @classmethod
    def of(cls, places: np.ndarray, system: np.ndarray, species: np.ndarray) -> Rows:
        """Sort atoms, given in the order of the batch, by element."""
        order = np.argsort(species, kind="stable")
        ordered = species[order]
        elements, begins = np.unique(ordered, return_index=True)
        ends = [*begins.tolist(), len(order)]
        groups = zip(elements.tolist(), (slice(*bounds) for bounds in pairwise(ends)), strict=True)
        return cls(places[order], order, system[order], ordered, tuple(groups))


class Environments:
    """Environment vectors of all atoms of a data set, whose `species` (N,) are indices into the model's elements.

    `columns` (F) are the columns of the published vectors that the elements which occur fill, in their order. Either
    all vectors are kept, in at most `most` bytes, or none.
    """

    def __init__(
        self,
        environment: Environment,
        species: np.ndarray,
        structures: int,
        elements: int,
        dtype: np.dtype,
        most: float,
    ) -> None:
        present = np.unique(species)
        blocks = np.arange(len(present))
        high, low = np.maximum(blocks[:, None], blocks), np.minimum(blocks[:, None], blocks)
        pair = low * len(blocks) - low * (low - 1) // 2 + high - low  # rows of the upper triangle
        angular = len(blocks) * environment.radial + pair * environment.angular
        self.kernel = constants(environment, dtype), blocks * environment.radial, angular
        self.columns = np.sort(environment.columns(present.tolist(), elements))
        self.dtype, self.blocks = dtype, np.searchsorted(present, species)
        fits = len(species) * len(self.columns) * dtype.itemsize <= most
        self.kept = np.empty((len(species), len(self.columns)), dtype) if fits else None
        self.made = np.zeros(structures, bool)

    def has(self, indices: np.ndarray) -> bool:
        """True if the vectors of these structures are kept already."""
        return bool(self.made[indices].all())

    def vectors(self, indices: np.ndarray, rows: Rows, pairs: Pairs | None, out: np.ndarray) -> None:
        """Write the vectors of structures `indices` to `out` (N, F); `pairs` are needed unless the vectors are kept."""
        from fusion_ani import kernels

        if self.kept is not None and self.has(indices):
            np.take(self.kept, rows.places, axis=0, out=out, mode="clip")
            return
        assert pairs is not None
        out[:] = 0.0
        lists = self._lists(rows, pairs)

        def work(part: slice) -> None:
            kernels.forward(*lists, rows.order[part], *self.kernel, out[part].ravel(), out.shape[1])

        _in_parts(work, len(out))
        if self.kept is not None:
            self.kept[rows.places], self.made[indices] = out, True

    def pulled(self, rows: Rows, pairs: Pairs, gradients: np.ndarray) -> np.ndarray:
        """Gradients (M, P, 3) by the displacements of pairs from `gradients` (M, N, F) by the environment vectors."""
        from fusion_ani import tangents

        lists, line = self._lists(rows, pairs), gradients.shape[2]
        flat, slopes = (
            gradients.reshape(len(gradients), -1),
            np.empty((len(gradients), *pairs.vectors.shape), self.dtype),
        )

        def work(part: slice) -> None:
            tangents.pulled(*lists, rows.order[part], *self.kernel, flat, part.start, line, slopes)

        _in_parts(work, len(rows.order))
        return slopes

    def pushed(self, rows: Rows, pairs: Pairs, directions: np.ndarray, out: np.ndarray) -> None:
        """Write the changes (M, N, F) of the environment vectors along `directions` (M, P, 3) of pairs."""
        from fusion_ani import tangents

        lists, line = self._lists(rows, pairs), out.shape[2]
        flat = out.reshape(len(out), -1)

        def work(part: slice) -> None:
            out[:, part] = 0.0
            tangents.pushed(*lists, rows.order[part], *self.kernel, directions, flat, part.start, line)

        _in_parts(work, len(rows.order))

    def _lists(self, rows: Rows, pairs: Pairs) -> tuple[np.ndarray, ...]:
        blocks = np.empty(len(rows.order), np.int64)
        blocks[rows.order] = self.blocks[rows.places]
        return pairs.vectors, pairs.first, pairs.other, blocks


def _in_parts(work: Callable[[slice], None], rows: int) -> None:
    """Apply `work` to slices of all rows, in as many threads as torch has."""
    count = max(1, min(torch.get_num_threads(), rows // ATOMS_PER_THREAD))
    bounds = np.linspace(0, rows, _PARTS * count + 1 if count > 1 else 2).astype(int).tolist()
    in_threads(work, [slice(*ends) for ends in pairwise(bounds)], count)
