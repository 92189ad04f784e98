"""What the networks of ANI see of a batch: environment vectors, made once and only if somebody wants them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fusion.chemistry.units import ANGSTROM_PER_BOHR
from fusion.potentials import Neighbours
from fusion_ani.aev import Environment, Layout, vectors
from fusion_ani.fused import EnvironmentVectors


@dataclass(frozen=True)
class Inputs:
    """Of atoms with element indices `species` (N,) of a model that knows so many `elements`."""

    environment: Environment
    pairs: Neighbours
    species: Tensor
    elements: int

    @property
    def plain(self) -> bool:
        """Whether only torch's operations will do."""
        return self.pairs.vectors.device.type != "cpu" or torch.compiler.is_compiling()

    @cached_property
    def layout(self) -> Layout:
        """The rows and columns of the vectors."""
        pairs = self.pairs
        return Layout(self.species, pairs.centre, pairs.other, pairs.first, self.elements)

    @cached_property
    def vectors(self) -> Tensor:
        """(N, F) in the rows and columns of `layout`, differentiable, on CPUs by compiled kernels."""
        if self.plain:
            return self.by_torch(self.pairs.vectors)
        found: Tensor = EnvironmentVectors.apply(self.pairs.vectors, self.environment, self.layout)
        return found

    def by_torch(self, displacements: Tensor) -> Tensor:
        """The same for `displacements` (P, 3), bohr, in the place of the pairs' own; differentiable in every order."""
        return vectors(self.environment, displacements * ANGSTROM_PER_BOHR, self.layout)
