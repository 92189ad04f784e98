"""Grid points around each nucleus: distances, directions and the functions of both that carry messages. Bohr.

Point g and nucleus a are a pair within the cutoff r_c. A pair has the radial functions, k = 1 ... C,

    R_k(r) = u_8(r / r_c) (2/3) x e^-x / (pi t_k)^(3/2),   x = r^2 / t_k,   t_k = 2 s_k^2

with widths s_k evenly spaced from half the smallest to half the largest covalent radius (0.32 and 2.32 Angstrom;
Pyykko and Atsumi, Chem. Eur. J. 15, 186 (2009)), real spherical harmonics Y_lm whose squares sum to one for each l, and
a share q(r / r_c) / (0.1 + sum over nuclei of q), which divides a point among the nuclei around it. Both u_8 and q fall
smoothly from one at zero to zero at one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

ANGSTROM: Final = 1.88973
"""Bohr per Angstrom as the published model has it."""
WIDTHS: Final = (0.16 * ANGSTROM, 1.16 * ANGSTROM)
"""Smallest and largest s_k, bohr."""
POWER: Final = 8
SHARED: Final = 0.1
"""Constant in the denominator of the share: the message to a point at the cutoff of its only nucleus vanishes."""
HIGHEST: Final = 3
"""Highest degree l of the spherical harmonics below."""
STORED_BYTES: Final = 1e9
"""Memory for the functions of all pairs; for more pairs they are computed again in every call."""


@dataclass(frozen=True)
class Pairs:
    """Functions of the P points around one nucleus."""

    radial: Tensor
    """(P, C)."""
    harmonics: Tensor
    """(P, (L + 1)^2), by rising l."""
    share: Tensor
    """(P,)."""


class Surroundings:
    """Points (G, 3) within `cutoff` of each nucleus (A, 3), for `channels` radial functions and harmonics to `degree`.

    The functions of the pairs are computed once, unless the coordinates or the nuclei require gradients.
    """

    def __init__(self, coords: Tensor, nuclei: Tensor, cutoff: float, channels: int, degree: int) -> None:
        self.coords, self.nuclei, self.cutoff, self.degree = coords, nuclei, cutoff, degree
        self.variable = coords.requires_grad or nuclei.requires_grad
        self.exponents, self.norms = (values.to(coords) for values in radial_constants(channels))
        with torch.no_grad():
            self.points = [torch.nonzero(_distances(coords - nucleus) <= cutoff)[:, 0] for nucleus in nuclei]
        self.total = torch.zeros_like(coords[:, 0])
        for points, nucleus in zip(self.points, nuclei, strict=True):
            self.total = self.total.index_add(0, points, reach(_distances(coords[points] - nucleus) / cutoff))
        stored = sum(map(len, self.points)) * (channels + (degree + 1) ** 2 + 1) * coords.element_size()
        self._stored: dict[int, Pairs] | None = None if self.variable or stored > STORED_BYTES else {}

    def is_at(self, coords: Tensor, nuclei: Tensor) -> bool:
        """True if this object has the points and nuclei, as constants."""
        if self.variable or coords.requires_grad or nuclei.requires_grad or coords.dtype != self.coords.dtype:
            return False
        same = coords.device == self.coords.device and coords.shape == self.coords.shape
        return same and torch.equal(coords, self.coords) and torch.equal(nuclei, self.nuclei)

    def places(self) -> tuple[Tensor, Tensor, Tensor]:
        """Tensors that `pairs` depends on."""
        return self.coords, self.nuclei, self.total

    def pairs(self, nucleus: int, coords: Tensor, nuclei: Tensor, total: Tensor) -> Pairs:
        """Functions of the pairs of one nucleus, with a graph to the `places` if these are variable."""
        if self._stored is None:
            return self._pairs(nucleus, coords, nuclei, total)
        if nucleus not in self._stored:
            self._stored[nucleus] = self._pairs(nucleus, coords, nuclei, total)
        return self._stored[nucleus]

    def _pairs(self, nucleus: int, coords: Tensor, nuclei: Tensor, total: Tensor) -> Pairs:
        points = self.points[nucleus]
        vectors = coords[points] - nuclei[nucleus]
        distances = _distances(vectors)
        squares = distances.square()[:, None] / self.exponents
        scaled = distances / self.cutoff
        radial = (2.0 / 3.0) * squares * torch.exp(-squares) / self.norms * envelope(scaled)[:, None]
        share = reach(scaled) / (total[points] + SHARED)
        return Pairs(radial, harmonics(vectors / distances[:, None], self.degree), share)


class Remembered:
    """Last surroundings of a functional. A copy of the functional, or a file of it, does not contain them."""

    def __init__(self) -> None:
        self._last: Surroundings | None = None

    def at(self, coords: Tensor, nuclei: Tensor, cutoff: float, channels: int, degree: int) -> Surroundings:
        """Return the surroundings of these points and nuclei; constant ones are kept until the next call."""
        if self._last is not None and self._last.is_at(coords, nuclei):
            return self._last
        made = Surroundings(coords, nuclei, cutoff, channels, degree)
        self._last = None if made.variable else made
        return made

    def __deepcopy__(self, memo: Any) -> Remembered:
        return Remembered()

    def __reduce__(self) -> tuple[type[Remembered], tuple[()]]:
        return Remembered, ()


def radial_constants(channels: int) -> tuple[Tensor, Tensor]:
    """Return t_k (C,) and (pi t_k)^(3/2) (C,), which the published model rounds to single precision."""
    widths = torch.linspace(*WIDTHS, channels, dtype=torch.float32)
    exponents = 2 * widths**2
    return exponents.double(), ((math.pi * exponents) ** 1.5).double()


def envelope(x: Tensor) -> Tensor:
    """u_8(x): one at 0, zero with two derivatives at 1 (Gasteiger, Gross, Gunnemann, arXiv:2003.03123, eq. 8)."""
    p = POWER
    x = x.clamp(0.0, 1.0)
    return 1.0 - 0.5 * x.pow(p) * ((p + 1) * (p + 2) - 2 * p * (p + 2) * x + p * (p + 1) * x.square())


def reach(x: Tensor) -> Tensor:
    """q(x): parabolas from one at 0 to 1/2 at 1/2 and to zero at 1."""
    x = x.clamp(0.0, 1.0)
    return torch.where(x < 0.5, 1.0 - 2.0 * x.square(), 2.0 * (1.0 - x).square())


def harmonics(directions: Tensor, degree: int) -> Tensor:
    """Real spherical harmonics (P, (L + 1)^2) of unit vectors (P, 3); the squares of each l sum to one."""
    x, y, z = directions.unbind(dim=1)
    of_degrees = [[torch.ones_like(x)]]
    if degree > 0:
        of_degrees.append([x, y, z])
    if degree > 1:
        root = math.sqrt(3.0)
        of_degrees.append([root * x * y, root * y * z, root * z * x, 0.5 * root * (x * x - y * y), 1.5 * z * z - 0.5])
    if degree > 2:
        low, middle, high = math.sqrt(0.375), math.sqrt(15.0), math.sqrt(0.625)
        across = low * (5.0 * z * z - 1.0)
        of_degrees.append(
            [
                high * x * (x * x - 3.0 * y * y), high * y * (3.0 * x * x - y * y), 0.5 * middle * z * (x * x - y * y),
                middle * x * y * z, across * x, across * y, 0.5 * z * (5.0 * z * z - 3.0),
            ]
        )  # fmt: skip
    return torch.stack([values for group in of_degrees for values in group], dim=1)


def _distances(vectors: Tensor) -> Tensor:
    """Lengths (P,), differentiable at zero."""
    return (vectors.square() + 1e-20).sum(dim=1).sqrt()
