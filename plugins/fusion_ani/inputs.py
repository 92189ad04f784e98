"""Inputs of ANI's networks for a batch: environment vectors, computed at their first use."""

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
    """Inputs for atoms with element indices `species` (N,) of a model of `elements` elements."""

    environment: Environment
    pairs: Neighbours
    species: Tensor
    elements: int

    @property
    def plain(self) -> bool:
        """True if only torch operations can be used: off the CPU, or while torch compiles."""
        return self.pairs.vectors.device.type != "cpu" or torch.compiler.is_compiling()

    @cached_property
    def layout(self) -> Layout:
        """Rows and columns of the vectors."""
        pairs = self.pairs
        return Layout(self.species, pairs.centre, pairs.other, pairs.first, self.elements)

    @cached_property
    def vectors(self) -> Tensor:
        """Environment vectors (N, F) in the order of `layout`, differentiable; by compiled kernels on CPUs."""
        if self.plain:
            return self.by_torch(self.pairs.vectors)
        result: Tensor = EnvironmentVectors.apply(self.pairs.vectors, self.environment, self.layout)
        return result

    def by_torch(self, displacements: Tensor) -> Tensor:
        """Environment vectors for other `displacements` (P, 3) of the pairs, bohr; differentiable in every order."""
        return vectors(self.environment, displacements * ANGSTROM_PER_BOHR, self.layout)
