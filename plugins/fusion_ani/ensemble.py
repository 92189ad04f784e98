"""Weights of all members' networks of an element, in the order in which the compiled kernels read them."""

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
    """Panels of columns of padded vectors that a group of atoms has, and offsets of their parts in a line.

    Padded vectors consist of the radial part, then one block for each pair of elements, by columns of the upper
    triangle. Each part is padded to whole panels of `width` columns.
    """

    panels: np.ndarray
    """Ascending numbers of panels."""
    radial: np.ndarray
    """(E,) offsets by element of a neighbour; -1 for elements that the group does not have."""
    pairs: np.ndarray
    """(E, E) offsets by elements of two neighbours; -1 for pairs that the group does not have."""

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Arguments of the kernels."""
        return self.panels, self.radial, self.pairs

    @classmethod
    @lru_cache(maxsize=4096)
    def of(cls, environment: Environment, elements: int, width: int, present: int, near: int) -> Columns:
        """Columns for neighbours of the elements whose bits are set in `present`; for the angular part, in `near`."""
        angular_elements = [element for element in range(elements) if near >> element & 1]
        radial_elements = [element for element in range(elements) if present >> element & 1]
        ends = [(e * environment.radial // width, ((e + 1) * environment.radial - 1) // width) for e in radial_elements]
        panels = sorted({panel for first_panel, last_panel in ends for panel in range(first_panel, last_panel + 1)})
        places = {panel: place * width for place, panel in enumerate(panels)}
        radial = np.full(elements, -1)
        for e, (first_panel, _) in zip(radial_elements, ends, strict=True):
            radial[e] = places[first_panel] + e * environment.radial - first_panel * width
        first, each = -(-elements * environment.radial // width), -(-environment.angular // width)
        pairs = np.full((elements, elements), -1)
        for index, other in enumerate(angular_elements):
            for e in angular_elements[: index + 1]:
                pairs[e, other] = pairs[other, e] = len(panels) * width
                start = first + (other * (other + 1) // 2 + e) * each
                panels += range(start, start + each)
        return cls(np.array(panels, dtype=np.int64), radial, pairs)


def padded(environment: Environment, elements: int, width: int) -> np.ndarray:
    """Column of the published vectors for each column of the padded ones, -1 for padding."""
    published = np.array(environment.columns(range(elements), elements))
    radial, blocks = np.split(published, [elements * environment.radial])
    angular = blocks.reshape(-1, environment.angular)
    parts = [radial[None], angular] if environment.angular else [radial[None]]
    filled = [np.pad(part, ((0, 0), (0, -part.shape[1] % width)), constant_values=-1) for part in parts]
    return np.concatenate([part.ravel() for part in filled])


def _panels(matrix: np.ndarray, width: int) -> np.ndarray:
    """Flatten a matrix (in, out), zero-padded in both dimensions, into panels of `width` columns, row by row."""
    rows, columns = (-size % width for size in matrix.shape)
    full = np.pad(matrix, ((0, rows), (0, columns)))
    return full.reshape(len(full), -1, width).transpose(1, 0, 2).ravel()


@dataclass(frozen=True)
class Packed:
    """Weights of one element's networks in panels, packed once for a frozen model."""

    numbers: np.ndarray
    places: np.ndarray
    """(M, L, 3): offsets of weights, transposed weights and biases by member and layer. The last, linear layer has the
    weights of its one output and its bias."""
    widths: np.ndarray
    """(L,) padded sizes of the inputs and the hidden layers."""
    alpha: np.floating[Any]
    sources: tuple[tuple[Tensor, Tensor, int], ...]
    """Each parameter with its value and its version at the time of packing."""

    @property
    def arrays(self) -> tuple[Any, ...]:
        """Arguments of the kernels."""
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
        """Pack weights (M, out, in) and biases (M, out) by layer, the last with one output; `order` from `padded`."""
        sources = tuple((tensor, tensor.detach(), tensor._version) for tensor in (*weights, *biases))
        arrays = [weight.detach().numpy() for weight in weights]
        wide = np.pad(arrays[0], ((0, 0), (0, 0), (0, 1)))[:, :, order]  # the appended column of zeros has index -1
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
        """True if `tensors` are the packed parameters, unchanged; autograd's version misses some changes."""
        for now, (tensor, was, version) in zip(tensors, self.sources, strict=True):
            if now is not tensor or now._version != version or now.data_ptr() != was.data_ptr():
                return False
        return True
