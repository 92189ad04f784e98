"""Metropolis sampling of |psi|^2 with moves of several kinds in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fusion.chemistry.system import System
from fusion.parallel.collectives import mean_over_ranks
from fusion.wavefunctions.periodic.cell import Cell
from fusion.wavefunctions.proposals import AllElectrons, OneElectron, Proposal

LogDensity = Callable[[Tensor], Tensor]


class Metropolis:
    """Walkers and their Metropolis-Hastings moves, accepted with probability min(1, p(x') q(x'->x) / p(x) q(x->x')).

    Kinds of proposals alternate. Without others, these are moves of all electrons at once and moves of one random
    electron per walker: the innermost electrons set the width of the first kind, and the width of the second, several
    times larger, moves outer electrons through the tails.

    Attributes:
        electrons: walkers of this rank (B, N, 3), bohr.
        generator: this rank's random stream.
        widths: width of each kind of proposal, bohr or a factor; the same on all ranks.
        acceptances: acceptance of each kind in the last ``run``, averaged over walkers and ranks.
        cell: the cell that electrons which leave it re-enter on the opposite side; None for a molecule.
    """

    def __init__(
        self,
        electrons: Tensor,
        generator: torch.Generator,
        width: float = 0.3,
        proposals: Sequence[Proposal] = (AllElectrons(), OneElectron()),
        cell: Cell | None = None,
    ) -> None:
        self.electrons = electrons
        self.cell = cell
        self.generator = generator
        self.proposals = tuple(proposals)
        self.widths = [width * proposal.relative_width for proposal in self.proposals]
        self.acceptances = [proposal.target for proposal in self.proposals]

    @property
    def acceptance(self) -> float:
        """Acceptance of the first kind."""
        return self.acceptances[0]

    @torch.no_grad()
    def run(self, log_density: LogDensity, moves: int) -> float:
        """Move every walker ``moves`` times; returns ``acceptance``."""
        x = self.electrons
        log = log_density(x)
        kinds = len(self.proposals)
        accepted = torch.zeros(kinds, dtype=torch.float64, device=x.device)
        for move in range(moves):
            kind = move % kinds
            proposal, log_ratio = self.proposals[kind](x, self.widths[kind], self.generator)
            if self.cell is not None:
                proposal = self.cell.wrap(proposal)
            threshold = torch.rand(len(x), generator=self.generator, dtype=x.dtype, device=x.device).log()
            proposed_log = log_density(proposal)
            # A walker on a node or at a non-finite density accepts the first finite proposal.
            change = proposed_log - log if log_ratio is None else proposed_log - log + log_ratio
            accept = (change > threshold) | (~torch.isfinite(log) & torch.isfinite(proposed_log))
            x = torch.where(accept[:, None, None], proposal, x)
            log = torch.where(accept, proposed_log, log)
            accepted[kind] += accept.double().mean()
        self.electrons = x
        rates = mean_over_ranks(accepted).tolist()
        for kind, proposal_kind in enumerate(self.proposals):
            count = len(range(kind, moves, kinds))
            # Without any move of this kind, its width does not change.
            self.acceptances[kind] = rates[kind] / count if count else proposal_kind.target
        return self.acceptance

    def adapt(self, strength: float = 1.0) -> None:
        """Scale the widths towards their target acceptance by at most a factor 2 (burn-in) or less (strength < 1)."""
        for kind, proposal in enumerate(self.proposals):
            self.widths[kind] *= min(max(self.acceptances[kind] / proposal.target, 0.5), 2.0) ** strength

    def burn_in(self, log_density: LogDensity, moves: int, block: int = 20) -> None:
        """Equilibrate the walkers; adapt the widths after every block of moves."""
        for _ in range(0, moves, block):
            self.run(log_density, block)
            self.adapt()

    def state_dict(self) -> dict[str, list[float]]:
        """Adapted widths and last acceptances; the owner saves walkers and generator."""
        return {"widths": list(self.widths), "acceptances": list(self.acceptances)}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        if len(state["widths"]) == len(self.proposals):  # otherwise the proposals are other ones
            self.widths, self.acceptances = list(state["widths"]), list(state["acceptances"])


def initial_electrons(system: System, walkers: int, generator: torch.Generator) -> Tensor:
    """Draw electrons (walkers, N, 3), bohr, float64, normally distributed with width 1 around the nuclei, up first.

    Every nucleus gets as many electrons as its charge, half of them up, an odd one with random spin. For ions,
    electrons are removed from or added to random nuclei. Random spins are flipped until the system's totals are met.
    Electrons of an electron gas are uniformly distributed in its cell.
    """
    if system.is_electron_gas:
        places = torch.rand(walkers, system.n_electrons, 3, generator=generator, dtype=torch.float64)
        return places @ torch.tensor(system.cell)
    nuclei = torch.tensor(system.positions, dtype=torch.float64)
    charges = torch.tensor(system.charges, dtype=torch.long)
    centres = torch.stack([nuclei[_deal(charges, system, generator)] for _ in range(walkers)])
    return centres + torch.randn(centres.shape, generator=generator, dtype=torch.float64)


def first_sets(system: System, number: int, walkers: int, generator: torch.Generator) -> Tensor:
    """Draw electrons (walkers, number * N, 3) of independent sets, as ``initial_electrons`` does."""
    sets = initial_electrons(system, walkers * number, generator)
    return sets.unflatten(0, (walkers, number)).flatten(1, 2)


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
