"""Derivatives of a functional in float64, and in float32 where that changes the energy negligibly."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from fusion.functionals.features import DensityFeatures, joined
from fusion.functionals.grid.differentiation import differentiate
from fusion.functionals.protocol import ToleratesFloat32


class Precision:
    """A functional and its copy in float32, which follows changes of the parameters."""

    def __init__(self, functional: Any, name: str) -> None:
        self.functional, self.name = functional, name
        self._versions: list[tuple[int, int]] | None = None
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
        versions = [(id(parameter), parameter._version) for parameter in self.functional.parameters()]
        if self._versions != versions:
            self._versions, self._single = versions, copy.deepcopy(self.functional).to(torch.float32)
        return self._single
