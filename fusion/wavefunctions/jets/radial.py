"""Features (f(|x|), x g(|x|)) of difference vectors x, with their derivatives with respect to x."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor


class Radial(Protocol):
    """Features of vectors (..., 3) in bohr with the norms (...,), which are positive."""

    width: ClassVar[int]
    """F, the number of features."""

    def values(self, vector: Tensor, distance: Tensor) -> Tensor:
        """Features (..., F)."""
        ...

    def jet(self, vector: Tensor, distance: Tensor) -> Tensor:
        """Features (..., 5, F): three derivative rows, Laplacian, value."""
        ...


@dataclass(frozen=True)
class Plain:
    """(|x|, x), which have a cusp at x = 0 (Pfau et al. 2020, eq. 5), unless distances are softened.

    ``lengths`` are h in s = sqrt(r^2 + h^2), which replaces r; they broadcast with the distances.
    """

    width: ClassVar[int] = 4
    lengths: Tensor | None = None

    def values(self, vector: Tensor, distance: Tensor) -> Tensor:
        return torch.cat((softened(distance, self.lengths).unsqueeze(-1), vector), dim=-1)

    def jet(self, vector: Tensor, distance: Tensor) -> Tensor:
        out, s = _with_vector(vector), softened(distance, self.lengths)
        out[..., :3, 0] = vector / s.unsqueeze(-1)
        out[..., 3, 0] = 2 / s
        out[..., 4, 0] = s
        if self.lengths is not None:
            out[..., 3, 0] += self.lengths.to(s) ** 2 / s**3
        return out


@dataclass(frozen=True)
class Logarithmic:
    """(log(1 + |x|), x log(1 + |x|) / |x|), which grow slowly in large molecules (von Glehn et al. 2023, sec. 4.1).

    ``lengths`` soften the distances as in ``Plain``.
    """

    width: ClassVar[int] = 4
    lengths: Tensor | None = None

    def values(self, vector: Tensor, distance: Tensor) -> Tensor:
        r = softened(distance, self.lengths).unsqueeze(-1)
        log = torch.log1p(r)
        return torch.cat((log, vector * (log / r)), dim=-1)

    def jet(self, vector: Tensor, distance: Tensor) -> Tensor:
        """Jets (..., 5, 4) with g = log(1 + s) / s: grad (x g) = g 1 + g' x x^T / s, lap (x g) = x (g'' + 4 g' / s)."""
        s = softened(distance, self.lengths)
        r = s.unsqueeze(-1)
        unit = vector / r
        out = vector.new_zeros(*vector.shape[:-1], 5, 4)
        eye = torch.eye(3, dtype=vector.dtype, device=vector.device)
        log = torch.log1p(r)
        g = log / r
        g1 = (1 / (1 + r) - g) / r
        g2 = (-1 / (1 + r) ** 2 - 2 * g1) / r
        out[..., :3, 0] = unit / (1 + r)
        out[..., 3, 0] = (2 / (r * (1 + r)) - 1 / (1 + r) ** 2).squeeze(-1)
        out[..., 4, 0] = log.squeeze(-1)
        out[..., :3, 1:] = g.unsqueeze(-1) * eye + g1.unsqueeze(-1) * unit.unsqueeze(-1) * vector.unsqueeze(-2)
        out[..., 3, 1:] = 2 * g1 * unit + vector * (g2 + 2 * g1 / r)
        out[..., 4, 1:] = vector * g
        if self.lengths is not None:  # |grad s|^2 = 1 - h^2 / s^2
            share = (self.lengths.to(s) ** 2).unsqueeze(-1) / r**2
            out[..., 3, 0] += (share * (1 / (r * (1 + r)) + 1 / (1 + r) ** 2)).squeeze(-1)
            out[..., 3, 1:] += vector * share * (g1 / r - g2)
        return out


@dataclass(frozen=True)
class Soft:
    """(r^2 / (r + a), x) with r = |x|: no cusp at r = 0, and r - a far from it.

    f' = r (r + 2 a) / (r + a)^2,    f'' = 2 a^2 / (r + a)^3.

    ``length`` is a in bohr, a number or a tensor that broadcasts with the distances.
    """

    width: ClassVar[int] = 4
    length: Tensor | float

    def values(self, vector: Tensor, distance: Tensor) -> Tensor:
        return torch.cat((self.distance(distance).unsqueeze(-1), vector), dim=-1)

    def distance(self, distance: Tensor) -> Tensor:
        """r^2 / (r + a) of distances r."""
        return distance * distance / (distance + self._length(distance))

    def jet(self, vector: Tensor, distance: Tensor) -> Tensor:
        out = _with_vector(vector)
        value, slope_by_r, curvature = self.derivatives(distance)
        out[..., :3, 0] = slope_by_r.unsqueeze(-1) * vector
        out[..., 3, 0] = curvature + 2 * slope_by_r
        out[..., 4, 0] = value
        return out

    def derivatives(self, distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """f, f' / r and f'' of distances r."""
        a = self._length(distance)
        total = distance + a
        return distance * distance / total, (distance + 2 * a) / total**2, 2 * a**2 / total**3

    def _length(self, like: Tensor) -> Tensor:
        return torch.as_tensor(self.length, dtype=like.dtype, device=like.device)


def _with_vector(vector: Tensor) -> Tensor:
    """Jets whose last three features are the vectors; the first is zero."""
    out = vector.new_zeros(*vector.shape[:-1], 5, 4)
    out[..., :3, 1:] = torch.eye(3, dtype=vector.dtype, device=vector.device)
    out[..., 4, 1:] = vector
    return out


def softened(distance: Tensor, lengths: Tensor | None) -> Tensor:
    """sqrt(r^2 + h^2) of distances (..., M); the distances themselves without lengths."""
    return distance if lengths is None else torch.sqrt(distance.square() + lengths.to(distance).square())
