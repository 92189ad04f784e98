"""Derivatives of a functional in float64, and in float32 where that changes the energy negligibly."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from fusion.functionals.features import DensityFeatures, joined
from fusion.functionals.grid.differentiation import differentiate
from fusion.functionals.protocol import ToleratesFloat32


@dataclass(frozen=True)
class Weights:
    """Copy of a functional's parameters and buffers, to notice later changes.

    Versions of tensors do not tell: an assignment through `.data` leaves them as they were.
    """

    tensors: tuple[Tensor, ...]

    @classmethod
    def of(cls, functional: Any) -> Self:
        """Copy the present values."""
        return cls(tuple(tensor.detach().clone() for tensor in _tensors(functional)))

    def are_those_of(self, functional: Any) -> bool:
        """True if no value has changed."""
        tensors = list(_tensors(functional))
        return len(tensors) == len(self.tensors) and all(map(_same, self.tensors, tensors))


def _tensors(functional: Any) -> Iterator[Tensor]:
    yield from functional.parameters()
    yield from functional.buffers()


def _same(first: Tensor, second: Tensor) -> bool:
    return first.dtype == second.dtype and torch.equal(first, second)


class Precision:
    """A functional and its copy in float32, which follows changes of the parameters."""

    def __init__(self, functional: Any, name: str) -> None:
        self.functional, self.name = functional, name
        self._weights: Weights | None = None
        self._single: Any = None

    def rough(self, features: DensityFeatures) -> tuple[Tensor, DensityFeatures]:
        """Energy density (G,), or energy (), and derivatives, computed in float32."""
        return differentiate(self.single, features, self.name)

    def fine(self, features: DensityFeatures) -> tuple[Tensor, DensityFeatures]:
        """Energy density (G,), or energy (), and derivatives, computed in float64."""
        return differentiate(self.functional, features, self.name)

    def mixed(self, features: DensityFeatures, weights: Tensor, tolerance: float) -> tuple[Tensor, DensityFeatures]:
        """Compute the points with the fewest electrons in float32: as many as change the energy by `tolerance` at most.

        `tolerance` in hartree; rounding shifts the energy by `float32_error` per electron. All points are computed in
        float64 with a functional that does not state it.
        """
        if not tolerance or not isinstance(self.functional, ToleratesFloat32):
            return self.fine(features)
        electrons = features.rho.sum(dim=0).mul(weights).abs()
        order = electrons.argsort()
        allowed = tolerance / self.functional.float32_error
        light = order[: int(torch.searchsorted(electrons[order].cumsum(dim=0), allowed))]
        parts = [(self.rough, light.sort().values), (self.fine, order[len(light) :].sort().values)]
        parts = [(compute, points) for compute, points in parts if len(points)]
        results = [compute(features.at(points)) for compute, points in parts]
        places = torch.cat([points for _, points in parts]).argsort()
        return torch.cat([values for values, _ in results])[places], joined([part for _, part in results]).at(places)

    @property
    def single(self) -> Any:
        """Copy of the functional in float32."""
        if self._weights is None or not self._weights.are_those_of(self.functional):
            self._weights = Weights.of(self.functional)
            self._single = copy.deepcopy(self.functional).to(torch.float32)
        return self._single
