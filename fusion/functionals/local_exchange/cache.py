"""The integrals of local exchange that one SCF keeps, within a bound of memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final

import numpy as np

from fusion.functionals.local_exchange.integrals import CHUNK
from fusion.functionals.local_exchange.local_exchange import LocalExchange
from fusion.functionals.local_exchange.quantised import Kept, outgrown

_SLAB: Final = 1 << 28
"""Bytes that are asked for at once, so that their pages are large; what is not written to costs nothing."""
_LINE: Final = 64
"""Bytes of a line of the processor's cache."""


class KeptIntegrals:
    """Integrals at the blocks of a grid, rounded as the density there allows, in at most `room` bytes.

    A block is computed again when the density orbitals have grown beyond what its integrals were rounded for. Calls for
    different blocks may run in threads.
    """

    def __init__(self, exchange: LocalExchange, room: float) -> None:
        self.exchange = exchange
        self._left = int(room)
        self._portion = min(_SLAB, self._left // 8)
        self._blocks: dict[int, Kept] = {}
        self._slabs: list[np.ndarray] = []
        """What is left of those that no thread is filling."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """The number of blocks with kept integrals."""
        return len(self._blocks)

    def contract(
        self,
        index: int,
        coords: np.ndarray,
        weights: np.ndarray,
        largest: np.ndarray,
        vectors: np.ndarray,
        single: bool = False,
    ) -> np.ndarray | None:
        """F (W, S, n, G) of E (S, n, G) at the points (G, 3) of block `index`; None where there is no room for it.

        `largest` (G,) is the largest basis function at a point; `single` for single precision.
        """
        kept = self._blocks.get(index)
        if kept is None and not self._slabs and self._left < _LINE:
            return None
        sizes = self.exchange.sizes(vectors, weights, largest)
        if kept is None or outgrown(sizes, kept.sizes):
            self._blocks.pop(index, None)
            kept = self._keep(coords, sizes if kept is None else np.maximum(sizes, kept.sizes))
            if kept is None:
                return None
            self._blocks[index] = kept
        return self.exchange.contract_kept(kept, vectors, single)

    def _keep(self, coords: np.ndarray, sizes: np.ndarray) -> Kept | None:
        most = _LINE * (self.exchange.stored_bytes * CHUNK * len(sizes) // _LINE + 1)
        for slab in self._slabs_of(most):
            found = self.exchange.kept(coords, sizes, slab)
            if found is not None:
                kept, end = found
                self._slabs.append(slab[end:])
                return kept
        return None

    def _slabs_of(self, most: int) -> Iterator[np.ndarray]:
        """Memory that nobody uses: what is left of earlier slabs, then of `most` bytes or more where there are."""
        with self._lock:
            slab = self._slabs.pop() if self._slabs else None
        if slab is not None:
            yield slab
        with self._lock:
            size = min(max(self._portion, most), self._left) // _LINE * _LINE
            self._left -= size
        if size > 0:
            memory = np.empty(size + _LINE, dtype=np.uint8)
            first = -memory.ctypes.data % _LINE
            yield memory[first : first + size]
