"""Features of vectors that are periodic in a cell, with their derivatives.

With the angles theta_m = b_m . x, the distance

    d^2 = 1 / (4 pi^2) sum_mn g_mn [(1 - cos theta_m) (1 - cos theta_n) + sin theta_m sin theta_n],    g_mn = a_m . a_n,

is smooth except at lattice points, where d = |x| + O(|x|^3): it has the cusp of |x| (Cassella et al. 2023,
arXiv 2202.05183).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fusion.wavefunctions.features import ElectronFeatures
from fusion.wavefunctions.jets.radial import Soft
from fusion.wavefunctions.periodic.cell import Cell

SOFT_ANGLE = 1.0
"""Length within which distances are smoothed in the trunk of reference orbitals, in units of V^(1/3) / (2 pi)."""


def periodic_distance(cell: Cell, vector: Tensor) -> Tensor:
    """d (...,) of vectors (..., 3), bohr; 1 at lattice points, which keeps derivatives finite there."""
    theta = cell.angles(vector)
    return _root(_squared(cell, torch.sin(theta), 2 * torch.sin(theta / 2).square()))


def periodic_distance_jet(cell: Cell, vector: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """d (...,), its gradient (..., 3) and Laplacian (...,) with respect to the vector.

    With q = d^2: grad d = grad q / (2 d) and lap d = lap q / (2 d) - |grad q|^2 / (4 d^3).
    """
    theta = cell.angles(vector)
    sine, lack = torch.sin(theta), 2 * torch.sin(theta / 2).square()  # 1 - cos without cancellation
    cosine = 1 - lack
    g, b = cell.metric.to(vector) / (4 * torch.pi**2), cell.reciprocal.to(vector)
    d = _root(_squared(cell, sine, lack))
    lacks, sines = lack @ g, sine @ g
    slope = 2 * (sine * lacks + cosine * sines)
    # Second derivatives of q: one part couples the angles, the other is diagonal.
    coupled = g * (b @ b.T)
    curvature = 2 * ((sine @ coupled * sine).sum(-1) + (cosine @ coupled * cosine).sum(-1))
    curvature = curvature + 2 * ((cosine * lacks - sine * sines) * (b @ b.T).diagonal()).sum(-1)
    gradient = (slope @ b) / (2 * d).unsqueeze(-1)
    return d, gradient, (curvature / 2 - gradient.square().sum(-1)) / d


@dataclass(frozen=True, eq=False)
class Angles:
    """(sin theta, cos theta) of vectors."""

    width: ClassVar[int] = 6
    cell: Cell

    def values(self, vector: Tensor, distance: Tensor) -> Tensor:
        """Features (..., 6)."""
        theta = self.cell.angles(vector)
        return torch.cat((torch.sin(theta), torch.cos(theta)), dim=-1)

    def jet(self, vector: Tensor, distance: Tensor) -> Tensor:
        """Features (..., 5, 6): three derivative rows, Laplacian, value."""
        theta, b = self.cell.angles(vector), self.cell.reciprocal.to(vector)
        sine, cosine, squared = torch.sin(theta), torch.cos(theta), b.square().sum(-1)
        value = torch.cat((sine, cosine), dim=-1)
        slope = torch.cat((cosine, -sine), dim=-1).unsqueeze(-2) * torch.cat((b, b)).T
        laplacian = -value * torch.cat((squared, squared))
        return torch.cat((slope, laplacian.unsqueeze(-2), value.unsqueeze(-2)), dim=-2)


@dataclass(frozen=True, eq=False)
class PeriodicPairs:
    """(f(u), sin theta, cos theta) with u = 2 pi d / V^(1/3), of order 1 at every density.

    f(u) = u, which has a cusp at u = 0, or without one u^2 / (u + ``soft``).
    """

    width: ClassVar[int] = 7
    cell: Cell
    soft: float | None = None

    def values(self, vector: Tensor, distance: Tensor) -> Tensor:
        """Features (..., 7)."""
        u = self._scale * periodic_distance(self.cell, vector)
        u = u if self.soft is None else Soft(self.soft).distance(u)
        return torch.cat((u.unsqueeze(-1), Angles(self.cell).values(vector, distance)), dim=-1)

    def jet(self, vector: Tensor, distance: Tensor) -> Tensor:
        """Features (..., 5, 7): three derivative rows, Laplacian, value."""
        d, gradient, laplacian = periodic_distance_jet(self.cell, vector)
        u, first, second = self._scale * d, torch.full_like(d, self._scale), torch.zeros_like(d)
        if self.soft is not None:
            value, slope_by_u, curvature = Soft(self.soft).derivatives(u)
            u, first, second = value, self._scale * u * slope_by_u, self._scale**2 * curvature
        rows = (
            first.unsqueeze(-1) * gradient,
            (first * laplacian + second * gradient.square().sum(-1)).unsqueeze(-1),
            u.unsqueeze(-1),
        )
        return torch.cat((torch.cat(rows, dim=-1).unsqueeze(-1), Angles(self.cell).jet(vector, distance)), dim=-1)

    @property
    def _scale(self) -> float:
        return float(2 * torch.pi / self.cell.volume ** (1 / 3))


def periodic_features(cell: Cell, smooth: bool = False) -> ElectronFeatures:
    """Angles of every electron, and angles and distances of pairs; ``smooth`` distances have no cusp."""
    return ElectronFeatures(Angles(cell), PeriodicPairs(cell, SOFT_ANGLE if smooth else None))


def _squared(cell: Cell, sine: Tensor, lack: Tensor) -> Tensor:
    """d^2 from sin theta and 1 - cos theta."""
    g = cell.metric.to(sine) / (4 * torch.pi**2)
    return (sine @ g * sine).sum(-1) + (lack @ g * lack).sum(-1)


def _root(squared: Tensor) -> Tensor:
    """Square root; 1 instead of 0, where it has no derivative."""
    return torch.sqrt(torch.where(squared > 0, squared, 1.0))
