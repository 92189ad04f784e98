"""All members' networks of an element in the order in which the compiled kernels read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from torch import Tensor

from fusion_ani.aev import Environment


@dataclass(frozen=True)
class Columns:
    """Which panels of columns of padded vectors a group of atoms has, and where in a line of them what begins.

    Padded vectors have, each filled up to whole panels of `width` columns: the radial part, then one block for each
    pair of elements, column by column of the upper triangle.
    """

    panels: np.ndarray
    """Ascending numbers of panels."""
    radial: np.ndarray
    """(E,) by element of a neighbour."""
    pairs: np.ndarray
    """(E, E) by elements of two neighbours; -1 for what the group does not have."""

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As the kernels want them."""
        return self.panels, self.radial, self.pairs

    @classmethod
    @lru_cache(maxsize=4096)
    def of(cls, environment: Environment, elements: int, width: int, present: int, near: int) -> Columns:
        """Of atoms near those elements whose bits are set in `present`, for the angular part in `near`."""
        has = [element for element in range(elements) if near >> element & 1]
        found = [element for element in range(elements) if present >> element & 1]
        ends = [(e * environment.radial // width, ((e + 1) * environment.radial - 1) // width) for e in found]
        panels = sorted({panel for one, last in ends for panel in range(one, last + 1)})
        places = {panel: place * width for place, panel in enumerate(panels)}
        radial = np.full(elements, -1)
        for e, (one, _) in zip(found, ends, strict=True):
            radial[e] = places[one] + e * environment.radial - one * width
        first, each = -(-elements * environment.radial // width), -(-environment.angular // width)
        pairs = np.full((elements, elements), -1)
        for last, other in enumerate(has):
            for e in has[: last + 1]:
                pairs[e, other] = pairs[other, e] = len(panels) * width
                start = first + (other * (other + 1) // 2 + e) * each
                panels += range(start, start + each)
        return cls(np.array(panels, dtype=np.int64), radial, pairs)


def padded(environment: Environment, elements: int, width: int) -> np.ndarray:
    """The column of the published vectors that each column of the padded ones is, -1 for what fills up."""
    published = np.array(environment.columns(range(elements), elements))
    radial, blocks = np.split(published, [elements * environment.radial])
    angular = blocks.reshape(-1, environment.angular)
    parts = [radial[None], angular] if environment.angular else [radial[None]]
    filled = [np.pad(part, ((0, 0), (0, -part.shape[1] % width)), constant_values=-1) for part in parts]
    return np.concatenate([part.ravel() for part in filled])


def _panels(matrix: np.ndarray, width: int) -> np.ndarray:
    """(in, out), both filled up with zeros, as panels of `width` columns, row by row, one after the other."""
    rows, columns = (-size % width for size in matrix.shape)
    full = np.pad(matrix, ((0, rows), (0, columns)))
    return full.reshape(len(full), -1, width).transpose(1, 0, 2).ravel()


@dataclass(frozen=True)
class Packed:
    """Numbers of one element's networks, in panels; those of a frozen model, made once."""

    numbers: np.ndarray
    places: np.ndarray
    """(M, L, 3): by member and layer where weights, weights for the way back, and biases begin; of the last, linear
    layer the weights of its one output and its bias."""
    widths: np.ndarray
    """(L,) padded sizes: of the inputs and the hidden layers."""
    alpha: np.floating[Any]
    sources: tuple[tuple[Tensor, Tensor, int], ...]
    """Each parameter, what it was and its version."""

    @property
    def arrays(self) -> tuple[Any, ...]:
        """As the kernels want them."""
        return self.numbers, self.places, self.widths, self.alpha

    @classmethod
    def of(
        cls,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor],
        order: np.ndarray,
        width: int,
        alpha: float,
    ) -> Packed:
        """From weights (M, out, in) and biases (M, out) by layer, the last with one output; `order` as by `padded`."""
        sources = tuple((tensor, tensor.detach(), tensor._version) for tensor in (*weights, *biases))
        arrays = [weight.detach().numpy() for weight in weights]
        wide = np.pad(arrays[0], ((0, 0), (0, 0), (0, 1)))[:, :, order]  # the last column, of zeros, is number -1
        arrays[0] = wide
        shifts = [bias.detach().numpy() for bias in biases]
        parts: list[np.ndarray] = []
        places = np.zeros((len(wide), len(arrays), 3), np.int64)
        for member in range(len(wide)):
            for layer, (weight, bias) in enumerate(zip(arrays, shifts, strict=True)):
                matrix = weight[member]
                linear = layer == len(arrays) - 1
                numbers = [matrix[0], matrix[:0, 0]] if linear else [_panels(matrix.T, width), _panels(matrix, width)]
                for kind, part in enumerate((*numbers, bias[member])):
                    places[member, layer, kind] = sum(map(len, parts))
                    parts.append(np.pad(part, (0, -len(part) % width)))
        widths = np.array([wide.shape[2], *(len(bias[0]) + -len(bias[0]) % width for bias in shifts[:-1])])
        return cls(np.concatenate(parts), places, widths, wide.dtype.type(alpha), sources)

    def is_of(self, tensors: Sequence[Tensor]) -> bool:
        """Whether these are the parameters it was made of, unchanged. What goes past autograd's count is not seen."""
        for now, (tensor, was, version) in zip(tensors, self.sources, strict=True):
            if now is not tensor or now._version != version or now.data_ptr() != was.data_ptr():
                return False
        return True
