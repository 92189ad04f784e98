"""The cell of a periodic system."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusion.chemistry.system import System


@dataclass(frozen=True, eq=False)
class Cell:
    """Cell with the rows of `vectors` (3, 3) as edges a_m, bohr, float64."""

    vectors: Tensor

    @cached_property
    def reciprocal(self) -> Tensor:
        """Rows b_m (3, 3) with a_m . b_n = 2 pi delta_mn, 1/bohr."""
        return 2 * torch.pi * torch.linalg.inv(self.vectors).T

    @cached_property
    def volume(self) -> float:
        """Volume, bohr^3."""
        return abs(float(torch.linalg.det(self.vectors)))

    @cached_property
    def metric(self) -> Tensor:
        """g_mn = a_m . a_n, (3, 3), bohr^2."""
        return self.vectors @ self.vectors.T

    @cached_property
    def radius(self) -> float:
        """Half the smallest distance of opposite faces, bohr: of each vector shorter than it, `nearest` finds it."""
        return float((torch.pi / torch.linalg.vector_norm(self.reciprocal, dim=1)).min())

    def angles(self, x: Tensor) -> Tensor:
        """theta_m = b_m . x of points or vectors (..., 3): a lattice vector adds 2 pi to one of them."""
        return x @ self.reciprocal.to(x).T

    def wrap(self, x: Tensor) -> Tensor:
        """Move points (..., 3) into the cell by lattice vectors; points in the cell keep their bits."""
        shifts = torch.floor(self.angles(x.double()) / (2 * torch.pi))
        return x - (shifts @ self.vectors.to(shifts)).to(x.dtype)

    def nearest(self, x: Tensor) -> Tensor:
        """Bring vectors (..., 3) between -1/2 and 1/2 of every edge by lattice vectors."""
        shifts = torch.round(self.angles(x) / (2 * torch.pi))
        return x - shifts @ self.vectors.to(x)


def cell_of(system: System) -> Cell | None:
    """The cell of a system; None for a molecule."""
    return None if system.cell is None else Cell(torch.tensor(system.cell, dtype=torch.float64))


def lattice_points(vectors: Tensor, longest: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Points n @ vectors, n integer, up to a length, the shortest first: (n, 3), float64."""
    rows = vectors.cpu().numpy()
    # |n_m| <= length of the m-th dual vector times the length of the point.
    reach = np.floor(longest * np.linalg.norm(np.linalg.inv(rows), axis=0) + 1e-9).astype(int)
    points = np.array(list(product(*(range(-n, n + 1) for n in reach)))) @ rows
    lengths = np.linalg.norm(points, axis=1)
    order = np.argsort(lengths.round(9), kind="stable")
    return points[order][lengths[order] <= longest * (1 + 1e-9)]
