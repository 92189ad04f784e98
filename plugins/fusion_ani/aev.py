"""Atomic environment vectors: what ANI's networks see of the neighbours of an atom. Angstrom.

Smith, Isayev, Roitberg, Chem. Sci. 8, 3192 (2017), equations 2 to 4, as the published weights were trained: with 1/4 on
the radial part and 0.95 on the cosine of an angle. For a centre i, with fc(r, R) = (1 + cos(pi r / R)) / 2 up to R,

    radial   [element of j][shift s]    sum_j  1/4 exp(-eta (r_ij - s)^2) fc(r_ij, R_r)
    angular  [elements of j, k][s][t]   sum_j<k  2 ((1 + cos(theta - t)) / 2)^zeta exp(-eta' ((r_ij + r_ik) / 2 - s)^2)
                                        fc(r_ij, R_a) fc(r_ik, R_a)   with cos(theta) = 0.95 cos(angle j-i-k)

Published weights have the pairs of elements in rows of the upper triangle of a square; here they come column by column.
This module is the plain torch path: any device, differentiable as often as wanted. `fusion_ani.kernels` computes the
same faster on CPUs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
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
        """Numbers per element of a neighbour."""
        return len(self.radial_shifts)

    @property
    def angular(self) -> int:
        """Numbers per pair of elements of two neighbours."""
        return len(self.angular_shifts) * len(self.angle_shifts)

    def size(self, elements: int) -> int:
        """Length of a vector over so many elements."""
        return elements * self.radial + elements * (elements + 1) // 2 * self.angular

    def occupied(self, near: int, elements: int) -> list[int]:
        """Columns that can differ from zero where only elements of the bits `near` are within the angular cutoff."""
        found = list(range(elements * self.radial))
        for other in range(elements):
            for one in range(other + 1):
                if near >> one & near >> other & 1:
                    block = elements * self.radial + (other * (other + 1) // 2 + one) * self.angular
                    found += range(block, block + self.angular)
        return found

    def columns(self, present: Sequence[int], elements: int) -> list[int]:
        """Places, in the published vector over all `elements`, of the numbers of one over those `present` (ascending).

        Here the pairs are the columns of the upper triangle: pairs of the first elements come before all others.
        """
        found = [element * self.radial + shift for element in present for shift in range(self.radial)]
        for last, other in enumerate(present):
            for one in present[: last + 1]:
                pair = one * elements - one * (one - 1) // 2 + other - one
                block = elements * self.radial + pair * self.angular
                found += range(block, block + self.angular)
        return found


class Layout:
    """Rows and columns of a batch's vectors: rows sorted by element, columns those of the elements that occur.

    With `near`, which gives bits (N,) of the elements within the angular cutoff (`kernels.near`), rows of an element
    are sorted by that, and `parts` of them have only some columns that differ from zero.
    """

    def __init__(
        self,
        species: Tensor,
        centre: Tensor,
        other: Tensor,
        first: Tensor,
        elements: int,
        near: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        """`species` (N,) element indices of atoms; `centre`, `other` (P,), `first` (N + 1,) as in `Neighbours`."""
        index = species.cpu().numpy()
        counts = np.bincount(index, minlength=elements)
        found = np.flatnonzero(counts)
        neighbours = (np.cumsum(counts > 0) - 1)[index][other.cpu().numpy()]
        keys = index if near is None else _merged(index, near(neighbours), elements, len(found))
        order = np.argsort(keys, kind="stable")
        row = np.empty_like(order)
        row[order] = np.arange(len(order))
        self.present: tuple[int, ...] = tuple(found.tolist())
        """Indices of the elements that occur."""
        self.counts: list[int] = counts[found].tolist()
        """Their atoms."""
        self.order = torch.from_numpy(order).to(species.device)
        """(N,) the atom of each row."""
        self.row = torch.from_numpy(row).to(species.device)
        """(N,) the row of each atom."""
        self.centre, self.first = centre, first
        self.other = torch.from_numpy(neighbours).to(species.device)
        """(P,) element of the neighbour as an index into `present`."""
        self.parts = self._groups(keys, grouped=near is not None)
        """(element, as an index into `present`; start, stop; bits of elements near) of groups of rows."""

    def _groups(self, keys: np.ndarray, grouped: bool) -> list[tuple[int, int, int, int]]:
        width = len(self.present)
        everything = (1 << width) - 1
        counts, start, groups = np.bincount(keys), 0, []
        for key in np.flatnonzero(counts).tolist():
            element, near = (key >> width, key & everything) if grouped else (key, everything)
            stop = start + int(counts[key])
            groups.append((self.present.index(element), start, stop, near))
            start = stop
        return groups


FEWEST = 32
"""Fewer atoms are not worth matrix products of their own."""


def _merged(index: np.ndarray, near: np.ndarray, elements: int, present: int) -> np.ndarray:
    """Keys (N,) of groups: element and bits; small groups join a larger one that has all of their bits."""
    everything = (1 << present) - 1
    counts = np.bincount((index << present) | near, minlength=elements << present).reshape(elements, -1)
    target = np.broadcast_to(np.arange(1 << present), counts.shape).copy()
    for element, bits in zip(*np.nonzero((counts > 0) & (counts < FEWEST)), strict=True):
        large = np.flatnonzero(counts[element] >= FEWEST)
        fitting = [int(other) for other in large if bits & ~other == 0]
        target[element, bits] = min(fitting, key=int.bit_count, default=everything)
    result: np.ndarray = (index << present) | target[index, near]
    return result


def vectors(environment: Environment, displacements: Tensor, layout: Layout) -> Tensor:
    """(N, size(elements present)) from `displacements` (P, 3) to neighbours. Twice differentiable.

    Every pair is there in both directions; neighbours beyond the cutoffs count nothing.
    """
    atoms, elements = len(layout.row), len(layout.present)
    centre, other = layout.row[layout.centre], layout.other
    distances = displacements.norm(dim=1)
    radial = _radial(environment, distances, centre * elements + other, atoms * elements)
    near = torch.nonzero(distances <= environment.angular_cutoff)[:, 0]
    j, k = _triples(layout.centre[near], atoms)
    terms = _angular(environment, displacements[near], distances[near], j, k)
    one, two = other[near][j], other[near][k]
    high = torch.maximum(one, two)
    pair = high * (high + 1) // 2 + torch.minimum(one, two)
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
    """Terms (T, s * t) of the triples whose neighbours are the pairs `j` and `k`."""
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
    """Indices j < k into the pairs, of all pairs of neighbours of one centre; `centre` ascends."""
    last = torch.bincount(centre, minlength=atoms).cumsum(0)[centre]
    index = torch.arange(len(centre), device=centre.device)
    partners = last - 1 - index
    j = torch.repeat_interleave(index, partners)
    start = partners.cumsum(0) - partners
    k = j + 1 + torch.arange(len(j), device=centre.device) - start[j]
    return j, k
