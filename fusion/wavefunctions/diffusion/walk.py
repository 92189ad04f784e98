"""One time step of diffusion Monte Carlo for independent walkers: drift, diffusion, acceptance and weights.

    x' = x + v tau + sqrt(tau) N(0, 1),  accepted with min(1, |psi'/psi|^2 G(x, x') / G(x', x)) if psi keeps its sign,
    w  = exp(-tau_eff ([S(x) + S(x')] / 2 - E_T)),

with the limited drift v of Umrigar, Nightingale and Runge (1993, J. Chem. Phys. 99, 2865, eqs. 35-36), which keeps the
time-step error small at nodes and nuclei, and the limited local energy S = E + clip(E_L - E, 0.2 sqrt(N / tau)) of Zen
et al. (2016, Phys. Rev. B 93, 241118, eq. 5), which is size-consistent. tau_eff = tau <p dr^2> / <dr^2>.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fusion.chemistry.system import System
from fusion.wavefunctions.jets import LogPsi
from fusion.wavefunctions.periodic.cell import cell_of

STUCK = 50
"""Rejections in a row after which the acceptance of a walker is raised by a tenth per step."""


class Walkers(NamedTuple):
    """Positions (B, N, 3) with what one forward Laplacian gives there, and rejections in a row (B,)."""

    electrons: Tensor
    sign: Tensor
    log: Tensor
    gradient: Tensor
    energy: Tensor
    age: Tensor

    def take(self, rows: Tensor) -> Walkers:
        """Walkers with these numbers."""
        return Walkers(*(column[rows] for column in self))


class Step(NamedTuple):
    """Walkers after a step, their weights (B,), the mean acceptance, and <p dr^2> and <dr^2> over the walkers."""

    walkers: Walkers
    weight: Tensor
    acceptance: Tensor
    accepted_squared: Tensor
    proposed_squared: Tensor


Measure = Callable[[Tensor], tuple[LogPsi, Tensor]]
"""log|psi| with derivatives, and local energies (B,), at electrons (B, N, 3)."""


def place(electrons: Tensor, measure: Measure) -> Walkers:
    """Walkers at these electrons (B, N, 3)."""
    psi, energy = measure(electrons)
    age = torch.zeros(len(electrons), dtype=torch.long, device=electrons.device)
    return Walkers(electrons, psi.sign, psi.log, psi.gradient.view_as(electrons), energy, age)


class Walk:
    """Time steps of length ``tau`` (1/hartree) for one system, with proposals from ``generator``."""

    def __init__(self, system: System, measure: Measure, tau: float, generator: torch.Generator) -> None:
        self.measure, self.tau, self.generator = measure, tau, generator
        self.nuclei = torch.tensor(system.positions)
        self.charges = torch.tensor(system.numbers, dtype=torch.float64)
        self.cell = cell_of(system)
        self.reach = 0.2 * (system.n_electrons / tau) ** 0.5

    def step(self, walkers: Walkers, energy: float, trial: float, effective: float) -> Step:
        """Move every walker once.

        ``energy`` is the best estimate of the energy, ``trial`` E_T and ``effective`` tau_eff / tau.
        """
        x, drift = walkers.electrons, self.drift(walkers.electrons, walkers.gradient)
        noise = torch.randn(x.shape, generator=self.generator, dtype=x.dtype, device=x.device)
        diffusion = self.tau**0.5 * noise
        proposed = x + self.tau * drift + diffusion
        there = place(proposed, self.measure)
        back = x - proposed - self.tau * self.drift(proposed, there.gradient)
        green = (diffusion.square() - back.square()).sum((1, 2)).double() / (2 * self.tau)
        log_ratio = 2 * (there.log - walkers.log).double() + green
        allowed = torch.isfinite(there.energy) & torch.isfinite(log_ratio) & (there.sign == walkers.sign)
        probability = torch.where(allowed, log_ratio.clamp(max=0.0).exp(), 0.0)
        eager = probability * 1.1 ** (walkers.age - STUCK).clamp(min=0)
        draw = torch.rand(len(x), generator=self.generator, dtype=torch.float64, device=x.device)
        accept = draw < eager
        if self.cell is not None:  # psi and its derivatives are the same at the image
            there = there._replace(electrons=self.cell.wrap(there.electrons))
        moved = Walkers(*(_choose(accept, new, old) for new, old in zip(there, walkers, strict=True)))
        moved = moved._replace(age=torch.where(accept, 0, walkers.age + 1))
        branching = 0.5 * (self.limited(moved.energy, energy) + self.limited(walkers.energy, energy)) - trial
        weight = torch.exp(-self.tau * effective * branching)
        squared = (proposed - x).square().sum((1, 2)).double()
        return Step(moved, weight, probability.mean(), (probability * squared).mean(), squared.mean())

    def drift(self, electrons: Tensor, gradient: Tensor) -> Tensor:
        """Limited drift velocity (B, N, 3).

        v (-1 + sqrt(1 + 2 a v^2 tau)) / (a v^2 tau) with a = (1 + cos) / 2 + Z^2 z^2 / (10 (4 + Z^2 z^2)), where z is
        the distance from the nearest nucleus and cos the cosine of the angle between v and the vector from it; a = 1/2
        without nuclei.
        """
        speed = torch.linalg.vector_norm(gradient, dim=-1).clamp(min=1e-12)
        if not len(self.nuclei):
            return self._slowed(gradient, torch.full_like(speed, 0.5), speed)
        nuclei, charges = self.nuclei.to(electrons), self.charges.to(electrons)
        vectors = electrons.unsqueeze(2) - nuclei
        distance, nearest = torch.linalg.vector_norm(vectors, dim=-1).min(-1)
        away = vectors.gather(2, nearest[..., None, None].expand(-1, -1, 1, 3)).squeeze(2)
        cosine = (away * gradient).sum(-1) / (distance * speed).clamp(min=1e-12)
        reduced = (charges[nearest] * distance).square()
        return self._slowed(gradient, 0.5 * (1 + cosine) + reduced / (10 * (4 + reduced)), speed)

    def _slowed(self, gradient: Tensor, a: Tensor, speed: Tensor) -> Tensor:
        product = (a * speed.square() * self.tau).clamp(min=1e-6)
        return gradient * (((1 + 2 * product).sqrt() - 1) / product).unsqueeze(-1)

    def limited(self, local: Tensor, energy: float) -> Tensor:
        """Local energies within 0.2 sqrt(N / tau) of ``energy``."""
        return energy + (local - energy).clamp(-self.reach, self.reach)


def _choose(accept: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(accept.view(-1, *[1] * (new.dim() - 1)), new, old)
