"""Cache of the integrals of local exchange during one SCF, within a limit of memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final

import numpy as np

from fusion.functionals.local_exchange.integrals import CHUNK
from fusion.functionals.local_exchange.local_exchange import LocalExchange
from fusion.functionals.local_exchange.quantised import Kept, outgrown

_SLAB: Final = 1 << 28
"""Bytes allocated at once, so that pages are large; memory that is never written costs nothing."""
_LINE: Final = 64
"""Bytes of a cache line of the processor."""


class KeptIntegrals:
    """Integrals at the blocks of a grid, rounded as far as the density allows, in at most `room` bytes.

    A block is computed again when the density orbitals have grown too much for the rounding of its integrals. Calls for
    different blocks may run in threads.
    """

    def __init__(self, exchange: LocalExchange, room: float) -> None:
        self.exchange = exchange
        self._left = int(room)
        self._portion = min(_SLAB, self._left // 8)
        self._blocks: dict[int, Kept] = {}
        self._slabs: list[np.ndarray] = []
        """Free parts of the slabs that no thread is filling."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Number of blocks with kept integrals."""
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
        """F (W, S, n, G) of E (S, n, G) at the points (G, 3) of block `index`; None if there is no room for it.

        `largest` (G,) is the largest basis function at a point; `single` for single precision.
        """
        integrals = self._blocks.get(index)
        if integrals is None and not self._slabs and self._left < _LINE:
            return None
        sizes = self.exchange.sizes(vectors, weights, largest)
        if integrals is None or outgrown(sizes, integrals.sizes):
            self._blocks.pop(index, None)
            integrals = self._keep(coords, sizes if integrals is None else np.maximum(sizes, integrals.sizes))
            if integrals is None:
                return None
            self._blocks[index] = integrals
        return self.exchange.contract_kept(integrals, vectors, single)

    def _keep(self, coords: np.ndarray, sizes: np.ndarray) -> Kept | None:
        most = _LINE * (self.exchange.stored_bytes * CHUNK * len(sizes) // _LINE + 1)
        for slab in self._slabs_of(most):
            result = self.exchange.kept(coords, sizes, slab)
            if result is not None:
                integrals, end = result
                self._slabs.append(slab[end:])
                return integrals
        return None

    def _slabs_of(self, most: int) -> Iterator[np.ndarray]:
        """Yield free memory: the rest of earlier slabs, then a new slab of `most` bytes or more if allowed."""
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
