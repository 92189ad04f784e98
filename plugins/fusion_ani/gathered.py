"""Whole energies of networks that do not learn, by compiled kernels that read the weights in their own order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusion.potentials import Neighbours
from fusion_ani.aev import Environment
from fusion_ani.ensemble import Columns, Packed, padded
from fusion_ani.fused import ATOMS_PER_THREAD, Block, blocks, constants, in_threads

Tensors = Callable[[int], Sequence[Tensor]]


class Gathered:
    """Networks with CELU activations of so many `elements`, whose weights are gathered when first needed."""

    def __init__(self, environment: Environment, elements: int, alpha: float) -> None:
        self.environment, self.elements, self.alpha = environment, elements, alpha
        self._packed: dict[int, Packed] = {}

    def energies(
        self, tensors: Tensors, pairs: Neighbours, species: Tensor, systems: int, differentiate: bool
    ) -> tuple[Tensor, Tensor | None]:
        """(M, B) and, where asked, the gradient (P, 3) of the mean of members, summed over systems.

        `species` (N,) are indices of elements, `tensors` gives of one the weights (M, out, in), then biases (M, out) by
        layer.
        """
        from fusion_ani import layers, products

        array, elements = pairs.vectors.detach().contiguous().numpy(), species.numpy()
        width, groups = products.panel(array.itemsize), blocks(self.environment, pairs, elements, self.elements)
        packed = {element: self._networks(element, tensors(element), width).arrays for element, *_ in groups}
        members = len(tensors(groups[0][0])[0])
        present = sum(1 << element for element in packed)
        lists = array, pairs.first.numpy(), pairs.other.numpy(), elements
        numbers = constants(self.environment, array.dtype)
        energies = np.empty((members, len(elements)), array.dtype)
        gradient = np.empty_like(array) if differentiate else array[:0]

        def work(block: Block) -> None:
            element, atoms, near = block
            columns = Columns.of(self.environment, self.elements, width, present, near).arrays
            layers.energies_of(*lists, atoms, numbers, columns, packed[element], differentiate, energies, gradient)

        in_threads(work, groups, max(1, min(torch.get_num_threads(), len(elements) * members // ATOMS_PER_THREAD)))
        summed = torch.from_numpy(layers.sums(energies, pairs.system.numpy(), systems))
        return summed, torch.from_numpy(gradient) if differentiate else None

    def _networks(self, element: int, tensors: Sequence[Tensor], width: int) -> Packed:
        """Those of an element in the kernels' order, made once and again when a parameter has changed."""
        kept = self._packed.get(element)
        if kept is None or not kept.is_of(tensors):
            order = padded(self.environment, self.elements, width)
            half = len(tensors) // 2
            kept = self._packed[element] = Packed.of(tensors[:half], tensors[half:], order, width, self.alpha)
        return kept

    def forget(self) -> None:
        """Gather the weights anew when they are needed, whatever has been done to them."""
        self._packed.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_packed": {}}
