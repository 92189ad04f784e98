"""Proposed moves of walkers, and the ratio of their probabilities forth and back."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fusion.chemistry.system import System


class Move(NamedTuple):
    """Proposed electrons (B, N, 3) and log q(x' -> x) / q(x -> x') (B,); None for a symmetric proposal."""

    electrons: Tensor
    log_ratio: Tensor | None = None


class Proposal(Protocol):
    """One kind of proposed move x -> x'."""

    target: float
    """Acceptance that the width is adapted to."""

    relative_width: float
    """Initial width in units of the sampler's."""

    def __call__(self, x: Tensor, width: float, generator: torch.Generator) -> Move:
        """Propose a move of walkers x (B, N, 3), bohr."""
        ...


class AllElectrons:
    """x' = x + width * N(0, 1) for all electrons at once; the innermost electrons limit the width."""

    target = 0.525  # middle of the published 0.5-0.55
    relative_width = 1.0

    def __init__(self, system: System | None = None) -> None:
        """Take the system, as every proposal of a configuration does; this one does not depend on it."""

    def __call__(self, x: Tensor, width: float, generator: torch.Generator) -> Move:
        return Move(x + width * _noise(x, generator))


class OneElectron:
    """x' = x + width * N(0, 1) for one random electron per walker, in steps wide enough for outer electrons."""

    target = 0.35
    relative_width = 3.0

    def __init__(self, system: System | None = None) -> None:
        """Take the system, as every proposal of a configuration does; this one does not depend on it."""

    def __call__(self, x: Tensor, width: float, generator: torch.Generator) -> Move:
        noise = _noise(x, generator)
        electron = torch.randint(x.shape[1], (len(x), 1), generator=generator, device=x.device)
        noise *= (torch.arange(x.shape[1], device=x.device) == electron).unsqueeze(-1)
        return Move(x + width * noise)


class ScaledElectrons:
    """All electrons at once, each in steps proportional to its distance from the nuclei.

        x_i' = x_i + width * s(x_i) * N(0, 1),       s(r) = [sum_A (|r - R_A| + 1 / Z_A)^-2]^(-1/2)

    so that core electrons take small steps and valence electrons large ones. The proposal is not symmetric:

        ln q(x' -> x) / q(x -> x') = sum_i 3 ln s_i / s_i' + |x_i' - x_i|^2 (s_i^-2 - s_i'^-2) / (2 width^2)

    (Umrigar 1993, Phys. Rev. Lett. 71, 408, for steps that grow with the distance from the nucleus.) Without nuclei,
    s = 1.
    """

    target = 0.35
    relative_width = 1.0

    def __init__(self, system: System) -> None:
        self.nuclei = torch.tensor(system.positions, dtype=torch.float64)
        self.radii = 1 / torch.tensor(system.charges, dtype=torch.float64)

    def __call__(self, x: Tensor, width: float, generator: torch.Generator) -> Move:
        scale = self._scale(x)
        step = width * scale.unsqueeze(-1) * _noise(x, generator)
        proposed = x + step
        back = self._scale(proposed)
        squared = step.square().sum(-1) / (2 * width * width)
        ratio = 3 * (scale / back).log() + squared * (scale**-2 - back**-2)
        return Move(proposed, ratio.sum(-1))

    def _scale(self, x: Tensor) -> Tensor:
        """s (B, N) of electrons (B, N, 3)."""
        if not len(self.nuclei):
            return torch.ones_like(x[..., 0])
        distance = torch.linalg.vector_norm(x.unsqueeze(2) - self.nuclei.to(x), dim=-1)
        return (distance + self.radii.to(x)).pow(-2).sum(-1).rsqrt()


def _noise(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
