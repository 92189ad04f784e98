"""Networks of one element in training: a model's tensors as the arrays that `dense` works on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fusion_ani import dense


class Room:
    """Reusable arrays that grow when needed: fresh memory costs more time than the products in it."""

    def __init__(self, dtype: np.dtype) -> None:
        self._dtype = dtype
        self._kept: dict[tuple[object, ...], np.ndarray] = {}

    def array(self, key: tuple[object, ...], *shape: int) -> np.ndarray:
        """Array of this shape with arbitrary content; each key stands for one array at a time."""
        size = math.prod(shape)
        buffer = self._kept.get(key)
        if buffer is None or len(buffer) < size:
            buffer = self._kept[key] = np.empty(size + size // 4, self._dtype)
        return buffer[:size].reshape(shape)


@dataclass
class Stack:
    """All members' networks of one element and the atoms in `rows` of a batch.

    `tensors` are the model's: weights, then biases by layer, then, if there is one, the offset of the inputs, which
    counts as part of the first biases. The passes are those of `dense`, for one member a call.
    """

    tensors: Sequence[Tensor]
    rows: slice
    columns: np.ndarray
    alpha: float | None
    room: Room
    key: int
    """Distinguishes this stack's arrays from those of other stacks."""
    _network: dense.Arrays = field(init=False)
    _work: np.ndarray = field(init=False)
    _by: tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]] = field(init=False)

    def __post_init__(self) -> None:
        arrays = [tensor.detach().numpy() for tensor in self.tensors]
        self.layers = len(arrays) // 2
        weights, biases = tuple(arrays[: self.layers]), arrays[self.layers : 2 * self.layers]
        if len(arrays) % 2:
            biases[0] = biases[0] + np.einsum("moi,mi->mo", weights[0], arrays[-1])
        alpha = None if self.alpha is None else weights[0].dtype.type(self.alpha)
        self._network = weights, tuple(biases), self.columns, alpha
        size = dense.room(self.rows.stop - self.rows.start, weights)
        self._work = self.room.array(("work", self.key), len(weights[0]), size)

    @property
    def learns(self) -> bool:
        """True if any of the tensors is trained."""
        return any(tensor.requires_grad for tensor in self.tensors)

    def energies(self, member: int, vectors: np.ndarray, out: np.ndarray) -> None:
        """Write the energies (n,) of atoms with environment vectors (n, F)."""
        dense.energies(self._network, member, vectors, self._work[member], out)

    def gradient(self, member: int, out: np.ndarray) -> None:
        """Write the energies' gradients (n, F) by the vectors."""
        dense.gradient(self._network, member, self._work[member], out)

    def prepare(self) -> None:
        """Prepare the arrays that `learn` adds to."""
        by = [_gradient(tensor) for tensor in self.tensors]
        biases = by[self.layers : 2 * self.layers]
        if len(by) % 2:
            biases[0] = np.zeros_like(self._network[1][0])
        self._by = tuple(by[: self.layers]), tuple(biases)

    def learn(self, member: int, factors: np.ndarray, vectors: np.ndarray, moves: np.ndarray) -> None:
        """Add the gradient of `factors` (n,) times energies, plus their changes along `moves` (n, F), if any."""
        dense.learn(self._network, member, factors, vectors, moves, self._work[member], *self._by)

    def finish(self) -> None:
        """Pass the gradient by the first biases on to the offset."""
        if len(self.tensors) % 2 == 0:
            return
        weights, by_biases, offset = self._network[0][0], self._by[1][0], self.tensors[-1]
        for tensor, more in (
            (self.tensors[self.layers], by_biases),
            (self.tensors[0], by_biases[:, :, None] * offset.detach().numpy()[:, None]),
            (offset, np.einsum("mo,moi->mi", by_biases, weights)),
        ):
            if tensor.requires_grad:
                _gradient(tensor)[:] += more


def _gradient(tensor: Tensor) -> np.ndarray:
    """Gradient to add to; an array with no members if the tensor is not trained."""
    if not tensor.requires_grad:
        return np.empty((0, *tensor.shape[1:]), tensor.detach().numpy().dtype)
    if tensor.grad is None:
        tensor.grad = torch.zeros_like(tensor)
    gradient: np.ndarray = tensor.grad.numpy()
    return gradient
