"""Energies of networks that are not trained, by compiled kernels that read the weights in an order of their own."""

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
    """Networks of all `elements` with CELU activations, whose weights are packed at the first use."""

    def __init__(self, environment: Environment, elements: int, alpha: float) -> None:
        self.environment, self.elements, self.alpha = environment, elements, alpha
        self._packed: dict[int, Packed] = {}

    def energies(
        self, tensors: Tensors, pairs: Neighbours, species: Tensor, systems: int, differentiate: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Energies (M, B) and, if `differentiate`, the gradient (P, 3) of the members' mean, summed over systems.

        `species` (N,) are indices of elements; `tensors` returns the weights (M, out, in), then the biases (M, out) by
        layer, for one element.
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
        """Packed networks of an element; packed again when a parameter has changed."""
        networks = self._packed.get(element)
        if networks is None or not networks.is_of(tensors):
            order = padded(self.environment, self.elements, width)
            half = len(tensors) // 2
            networks = self._packed[element] = Packed.of(tensors[:half], tensors[half:], order, width, self.alpha)
        return networks

    def forget(self) -> None:
        """Discard the packed weights; the next call packs them again."""
        self._packed.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_packed": {}}
