"""Atomic environment vectors: the inputs of ANI's networks, which describe the neighbours of an atom. Angstrom.

Smith, Isayev, Roitberg, Chem. Sci. 8, 3192 (2017), equations 2 to 4, as the published weights were trained: with 1/4 on
the radial part and 0.95 on the cosine of an angle. For a centre i, with fc(r, R) = (1 + cos(pi r / R)) / 2 up to R,

    radial   [element of j][shift s]    sum_j  1/4 exp(-eta (r_ij - s)^2) fc(r_ij, R_r)
    angular  [elements of j, k][s][t]   sum_j<k  2 ((1 + cos(theta - t)) / 2)^zeta exp(-eta' ((r_ij + r_ik) / 2 - s)^2)
                                        fc(r_ij, R_a) fc(r_ik, R_a)   with cos(theta) = 0.95 cos(angle j-i-k)

Published weights order the pairs of elements by rows of the upper triangle of a square; here the order is by columns.
This module is the plain torch path: it runs on any device and is differentiable in every order. `fusion_ani.kernels`
computes the same vectors faster on CPUs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RADIAL_FACTOR = 0.25
COSINE_FACTOR = 0.95


@dataclass(frozen=True)
class Environment:
    """Parameters of the vectors: cutoffs and shifts of distances in Angstrom, etas in Angstrom^-2, angles in radian."""

    radial_cutoff: float
    radial_eta: float
    radial_shifts: tuple[float, ...]
    angular_cutoff: float
    angular_eta: float
    angular_shifts: tuple[float, ...]
    zeta: float
    angle_shifts: tuple[float, ...]

    @property
    def radial(self) -> int:
        """Number of radial components per element of a neighbour."""
        return len(self.radial_shifts)

    @property
    def angular(self) -> int:
        """Number of angular components per pair of elements of two neighbours."""
        return len(self.angular_shifts) * len(self.angle_shifts)

    def size(self, elements: int) -> int:
        """Length of a vector for this number of elements."""
        return elements * self.radial + elements * (elements + 1) // 2 * self.angular

    def columns(self, present: Sequence[int], elements: int) -> list[int]:
        """Columns of the published vector over all `elements` that a vector over the `present` ones (ascending) has.

        Pairs of elements are ordered by columns of the upper triangle: pairs of the first elements come first.
        """
        places = [element * self.radial + shift for element in present for shift in range(self.radial)]
        for index, high in enumerate(present):
            for low in present[: index + 1]:
                pair = low * elements - low * (low - 1) // 2 + high - low
                block = elements * self.radial + pair * self.angular
                places += range(block, block + self.angular)
        return places


class Layout:
    """Rows and columns of a batch's vectors: rows are sorted by element, columns cover the elements that occur."""

    def __init__(self, species: Tensor, centre: Tensor, other: Tensor, first: Tensor, elements: int) -> None:
        """`species` (N,) element indices of atoms; `centre`, `other` (P,), `first` (N + 1,) as in `Neighbours`."""
        counts = torch.bincount(species, minlength=elements)
        present = torch.nonzero(counts)[:, 0]
        self.present: tuple[int, ...] = tuple(present.tolist())
        """Indices of the elements that occur."""
        self.counts: list[int] = counts[present].tolist()
        """Number of atoms of each of these elements."""
        self.species = (torch.cumsum(counts > 0, 0) - 1)[species]
        """(N,) elements as indices into `present`."""
        self.order = torch.argsort(species, stable=True)
        """(N,) atom of each row."""
        self.row = torch.empty_like(self.order)
        """(N,) row of each atom."""
        self.row[self.order] = torch.arange(len(species), device=species.device)
        self.centre, self.neighbour, self.first = centre, other, first

    @property
    def other(self) -> Tensor:
        """(P,) element of the neighbour as an index into `present`."""
        return self.species[self.neighbour]


def vectors(environment: Environment, displacements: Tensor, layout: Layout) -> Tensor:
    """Environment vectors (N, size(elements present)) from `displacements` (P, 3) to neighbours; twice differentiable.

    Every pair is listed in both directions; neighbours beyond the cutoffs contribute nothing.
    """
    atoms, elements = len(layout.row), len(layout.present)
    centre, other = layout.row[layout.centre], layout.other
    distances = displacements.norm(dim=1)
    radial = _radial(environment, distances, centre * elements + other, atoms * elements)
    near = torch.nonzero(distances <= environment.angular_cutoff)[:, 0]
    j, k = _triples(layout.centre[near], atoms)
    terms = _angular(environment, displacements[near], distances[near], j, k)
    element_j, element_k = other[near][j], other[near][k]
    high = torch.maximum(element_j, element_k)
    pair = high * (high + 1) // 2 + torch.minimum(element_j, element_k)
    pairs = elements * (elements + 1) // 2
    angular = terms.new_zeros(atoms * pairs, environment.angular).index_add(0, centre[near][j] * pairs + pair, terms)
    return torch.cat([radial.view(atoms, -1), angular.view(atoms, -1)], dim=1)


def _switch(distances: Tensor, cutoff: float) -> Tensor:
    return torch.where(distances <= cutoff, 0.5 * torch.cos(distances * (math.pi / cutoff)) + 0.5, 0.0)


def _radial(environment: Environment, distances: Tensor, place: Tensor, places: int) -> Tensor:
    shifts = distances.new_tensor(environment.radial_shifts)
    terms = torch.exp(-environment.radial_eta * (distances[:, None] - shifts) ** 2)
    terms = terms * (RADIAL_FACTOR * _switch(distances, environment.radial_cutoff))[:, None]
    return distances.new_zeros(places, environment.radial).index_add(0, place, terms)


def _angular(environment: Environment, displacements: Tensor, distances: Tensor, j: Tensor, k: Tensor) -> Tensor:
    """Terms (T, s * t) of triples; `j` and `k` index the pairs of the centre with its two neighbours."""
    switch = _switch(distances, environment.angular_cutoff)
    directions = displacements / distances[:, None]
    cosine = COSINE_FACTOR * (directions[j] * directions[k]).sum(dim=1)
    sine = torch.sqrt(1.0 - cosine**2)
    shifts = environment.angle_shifts
    turned = cosine[:, None] * cosine.new_tensor([math.cos(shift) for shift in shifts])
    turned = turned + sine[:, None] * sine.new_tensor([math.sin(shift) for shift in shifts])
    angles = (0.5 + 0.5 * turned).clamp(min=0.0) ** environment.zeta
    mean = 0.5 * (distances[j] + distances[k])
    lengths = torch.exp(-environment.angular_eta * (mean[:, None] - mean.new_tensor(environment.angular_shifts)) ** 2)
    lengths = lengths * (2.0 * switch[j] * switch[k])[:, None]
    return (lengths[:, :, None] * angles[:, None, :]).flatten(1)


def _triples(centre: Tensor, atoms: int) -> tuple[Tensor, Tensor]:
    """Indices j < k into the pairs, for every two neighbours of the same centre; `centre` ascends."""
    last = torch.bincount(centre, minlength=atoms).cumsum(0)[centre]
    index = torch.arange(len(centre), device=centre.device)
    partners = last - 1 - index
    j = torch.repeat_interleave(index, partners)
    start = partners.cumsum(0) - partners
    k = j + 1 + torch.arange(len(j), device=centre.device) - start[j]
    return j, k
