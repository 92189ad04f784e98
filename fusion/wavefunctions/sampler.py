"""Metropolis sampling of |psi|^2 with moves of all electrons at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fusion.chemistry.system import System
from fusion.parallel.collectives import mean_over_ranks

LogDensity = Callable[[Tensor], Tensor]


class Metropolis:
    """Walkers and their Metropolis moves: x' = x + width * N(0, 1), accepted with probability min(1, p(x')/p(x)).

    Moves of all electrons at once alternate with moves of one random electron per walker. The innermost electrons set
    the width of the first kind. The width of the second, several times larger, moves outer electrons through the tails;
    otherwise walkers would stay there so long that single ones distort the energy for many iterations.

    Attributes:
        electrons: walkers of this rank (B, N, 3), bohr.
        generator: this rank's random stream.
        widths: standard deviation of a proposed move per coordinate, bohr, for moves of all electrons and of one; the
            same on all ranks.
        acceptances: acceptance of both kinds in the last ``run``, averaged over walkers and ranks.
    """

    TARGETS = (0.525, 0.35)  # target acceptances: the middle of the published 0.5-0.55; a lower one for larger steps

    def __init__(self, electrons: Tensor, generator: torch.Generator, width: float = 0.3) -> None:
        self.electrons = electrons
        self.generator = generator
        self.widths = [width, 3 * width]
        self.acceptances = list(self.TARGETS)

    @property
    def acceptance(self) -> float:
        """Acceptance of the moves of all electrons."""
        return self.acceptances[0]

    @torch.no_grad()
    def run(self, log_density: LogDensity, moves: int) -> float:
        """Move every walker ``moves`` times; returns ``acceptance``."""
        x = self.electrons
        log = log_density(x)
        accepted = torch.zeros(2, dtype=torch.float64, device=x.device)
        for move in range(moves):
            proposal = self._proposal(x, move % 2)
            threshold = torch.rand(len(x), generator=self.generator, dtype=x.dtype, device=x.device).log()
            proposed_log = log_density(proposal)
            # A walker on a node or at a non-finite density accepts the first finite proposal.
            accept = (proposed_log - log > threshold) | (~torch.isfinite(log) & torch.isfinite(proposed_log))
            x = torch.where(accept[:, None, None], proposal, x)
            log = torch.where(accept, proposed_log, log)
            accepted[move % 2] += accept.double().mean()
        self.electrons = x
        rates = mean_over_ranks(accepted).tolist()
        for kind, count in enumerate(((moves + 1) // 2, moves // 2)):
            # Without any move of this kind, its width does not change.
            self.acceptances[kind] = rates[kind] / count if count else self.TARGETS[kind]
        return self.acceptance

    def adapt(self, strength: float = 1.0) -> None:
        """Scale both widths towards their target acceptance by at most a factor 2 (burn-in) or less (strength < 1)."""
        for kind, target in enumerate(self.TARGETS):
            self.widths[kind] *= min(max(self.acceptances[kind] / target, 0.5), 2.0) ** strength

    def burn_in(self, log_density: LogDensity, moves: int, block: int = 20) -> None:
        """Equilibrate the walkers; adapt the widths after every block of moves."""
        for _ in range(0, moves, block):
            self.run(log_density, block)
            self.adapt()

    def _proposal(self, x: Tensor, kind: int) -> Tensor:
        noise = torch.randn(x.shape, generator=self.generator, dtype=x.dtype, device=x.device)
        if kind == 1:
            electron = torch.randint(x.shape[1], (len(x), 1), generator=self.generator, device=x.device)
            noise *= (torch.arange(x.shape[1], device=x.device) == electron).unsqueeze(-1)
        return x + self.widths[kind] * noise

    def state_dict(self) -> dict[str, list[float]]:
        """Adapted widths and last acceptances; the owner saves walkers and generator."""
        return {"widths": list(self.widths), "acceptances": list(self.acceptances)}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        self.widths, self.acceptances = list(state["widths"]), list(state["acceptances"])


def initial_electrons(system: System, walkers: int, generator: torch.Generator) -> Tensor:
    """Draw electrons (walkers, N, 3), bohr, float64, normally distributed with width 1 around the nuclei, up first.

    Every nucleus gets as many electrons as its charge, half of them up, an odd one with random spin. For ions,
    electrons are removed from or added to random nuclei. Random spins are flipped until the system's totals are met.
    """
    nuclei = torch.tensor(system.positions, dtype=torch.float64)
    charges = torch.tensor(system.charges, dtype=torch.long)
    centres = torch.stack([nuclei[_deal(charges, system, generator)] for _ in range(walkers)])
    return centres + torch.randn(centres.shape, generator=generator, dtype=torch.float64)


def _deal(charges: Tensor, system: System, generator: torch.Generator) -> Tensor:
    """Assign a nucleus to every electron of one walker, (N,), spin up first."""

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
