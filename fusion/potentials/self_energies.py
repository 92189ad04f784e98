"""Energies of isolated atoms that a model adds to its network's output, always in float64. Hartree."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class SelfEnergies(nn.Module):
    """One energy per element of a model, summed over atoms in float64 also where the model runs in float32.

    Sums of self energies are large (thousands of hartree) and float32 keeps seven digits: casting the model would cost
    millihartrees. `model.to(dtype)` therefore moves them to another device only.
    """

    values: Tensor
    """(E,) float64, hartree, in the model's order of elements."""

    def __init__(self, values: Sequence[float] | int) -> None:
        """Take `values` in hartree, or the number of elements: zeros that a state dict or a fit replaces."""
        super().__init__()
        zeros = torch.zeros(values, dtype=torch.float64) if isinstance(values, int) else None
        self.register_buffer("values", torch.tensor(values, dtype=torch.float64) if zeros is None else zeros)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SelfEnergies:
        float64_values = self.values
        super()._apply(fn, recurse)
        if self.values.dtype != torch.float64:
            self.values = float64_values.to(self.values.device)
        return self

    def forward(self, species: Tensor, system: Tensor, systems: int) -> Tensor:
        """Sum over the atoms of each system; (B,) float64, hartree.

        `species` (N,) are indices of elements, `system` (N,) the system of each atom.
        """
        return self.values.new_zeros(systems).index_add(0, system, self.values[species])


def self_energies(model: nn.Module) -> SelfEnergies | None:
    """Return the self energies among the model's submodules, or None."""
    return next((part for part in model.children() if isinstance(part, SelfEnergies)), None)
