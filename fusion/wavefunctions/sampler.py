"""Metropolis sampling of |psi|^2 with moves of all electrons at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fusion.distributed import mean_over_ranks
from fusion.system import System

LogDensity = Callable[[Tensor], Tensor]


class Metropolis:
    """Walkers and the rule that moves them: x' = x + width * N(0, 1), accepted with probability min(1, p(x')/p(x)).

    Attributes:
        electrons: walkers of this rank (B, N, 3), bohr.
        width: standard deviation of a proposed move per coordinate, bohr; the same on all ranks.
        generator: this rank's random stream.
    """

    TARGET = 0.525  # acceptance aimed at, the middle of the published 0.5-0.55

    def __init__(self, electrons: Tensor, generator: torch.Generator, width: float = 0.3) -> None:
        self.electrons = electrons
        self.generator = generator
        self.width = width
        self.acceptance = self.TARGET

    @torch.no_grad()
    def run(self, log_density: LogDensity, steps: int) -> float:
        """Move every walker ``steps`` times; returns the acceptance, averaged over walkers, steps and ranks."""
        x = self.electrons
        log = log_density(x)
        accepted = torch.zeros((), dtype=torch.float64, device=x.device)
        for _ in range(steps):
            noise = torch.randn(x.shape, generator=self.generator, dtype=x.dtype, device=x.device)
            threshold = torch.rand(len(x), generator=self.generator, dtype=x.dtype, device=x.device).log()
            proposal = x + self.width * noise
            proposed_log = log_density(proposal)
            # A walker that sits on a node or at a non-finite density leaves it with the first finite proposal.
            accept = (proposed_log - log > threshold) | (~torch.isfinite(log) & torch.isfinite(proposed_log))
            x = torch.where(accept[:, None, None], proposal, x)
            log = torch.where(accept, proposed_log, log)
            accepted += accept.double().mean()
        self.electrons = x
        self.acceptance = float(mean_over_ranks(accepted / max(steps, 1)))
        return self.acceptance

    def adapt(self, strength: float = 1.0) -> None:
        """Scale the width towards the target acceptance by at most a factor 2 (burn-in) or less (strength < 1)."""
        ratio = min(max(self.acceptance / self.TARGET, 0.5), 2.0)
        self.width *= ratio**strength

    def burn_in(self, log_density: LogDensity, steps: int, block: int = 10) -> None:
        """Equilibrate, adapting the width after every block of moves."""
        for _ in range(0, steps, block):
            self.run(log_density, block)
            self.adapt()


def initial_electrons(system: System, walkers: int, generator: torch.Generator) -> Tensor:
    """Electrons (walkers, N, 3), bohr, float64, normally distributed with width 1 around the nuclei, up first.

    Every nucleus gets as many electrons as its charge, half of them up, an odd one with random spin; for ions electrons
    are then taken from or added to random nuclei, and random ones flipped, until the system's totals are met.
    """
    nuclei = torch.tensor(system.positions, dtype=torch.float64)
    charges = torch.tensor(system.numbers, dtype=torch.long)
    centres = torch.stack([nuclei[_deal(charges, system, generator)] for _ in range(walkers)])
    return centres + torch.randn(centres.shape, generator=generator, dtype=torch.float64)


def _deal(charges: Tensor, system: System, generator: torch.Generator) -> Tensor:
    """The nucleus of every electron of one walker, (N,), up first."""

    def draw(weights: Tensor) -> int:
        return int(torch.multinomial(weights.double(), 1, generator=generator))

    count = charges.clone()
    while int(count.sum()) > system.n_electrons:
        count[draw(count)] -= 1
    while int(count.sum()) < system.n_electrons:
        count[draw(charges)] += 1
    odd = torch.randint(2, count.shape, generator=generator)
    up = (count + odd) // 2
    while int(up.sum()) > system.n_up:
        up[draw(up)] -= 1
    while int(up.sum()) < system.n_up:
        up[draw(count - up)] += 1
    atoms = torch.arange(len(charges))
    return torch.cat((atoms.repeat_interleave(up), atoms.repeat_interleave(count - up)))
