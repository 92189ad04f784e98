"""Metropolis sampling of several electron sets, one set at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fusion.parallel.collectives import mean_over_ranks
from fusion.wavefunctions.excited.state_matrix import StateSets
from fusion.wavefunctions.periodic.cell import Cell
from fusion.wavefunctions.proposals import Proposal
from fusion.wavefunctions.sampler import LogDensity, Metropolis


class SetMetropolis(Metropolis):
    """Walkers of S electron sets each, (B, S N, 3), and moves of one set after another.

    A move of one set changes one row of M: only this row is evaluated, so that a sweep over all sets costs as much as S
    moves of a ground state. `moves` counts sweeps, and every kind of proposal has one width for all sets.
    """

    def __init__(
        self, matrix: StateSets, generator: torch.Generator, proposals: Sequence[Proposal], cell: Cell | None = None
    ) -> None:
        super().__init__(torch.empty(0), generator, proposals=proposals, cell=cell)
        self.matrix = matrix

    @torch.no_grad()
    def run(self, log_density: LogDensity, moves: int) -> float:
        """Move every set ``moves`` times; the density is |Psi|^2 of the matrix, which `log_density` is as well."""
        number = self.matrix.number
        x = self.electrons.unflatten(1, (number, -1)).clone()
        rows = self.matrix.rows(x.flatten(0, 1))
        values, logs = rows.values.unflatten(0, (-1, number)), rows.log.view(-1, number)
        log = self.matrix.amplitude(values, logs)[1]
        kinds = len(self.proposals)
        accepted = torch.zeros(kinds, dtype=torch.float64, device=x.device)
        for move in range(moves):
            for own in range(number):
                log = self._move(move % kinds, own, x, values, logs, log, accepted)
        self.electrons = x.flatten(1, 2)
        rates = mean_over_ranks(accepted / number).tolist()
        for kind, proposal in enumerate(self.proposals):
            count = len(range(kind, moves, kinds))
            self.acceptances[kind] = rates[kind] / count if count else proposal.target
        return self.acceptance

    def _move(
        self, kind: int, own: int, x: Tensor, values: Tensor, logs: Tensor, log: Tensor, accepted: Tensor
    ) -> Tensor:
        """Move set ``own`` of all walkers in place and return log|Psi| (B,) afterwards."""
        proposal, log_ratio = self.proposals[kind](x[:, own], self.widths[kind], self.generator)
        if self.cell is not None:
            proposal = self.cell.wrap(proposal)
        threshold = torch.rand(len(x), generator=self.generator, dtype=x.dtype, device=x.device).log()
        row = self.matrix.rows(proposal)
        proposed_values, proposed_logs = values.clone(), logs.clone()
        proposed_values[:, own], proposed_logs[:, own] = row.values, row.log
        proposed = self.matrix.amplitude(proposed_values, proposed_logs)[1]
        change = 2 * (proposed - log)
        if log_ratio is not None:
            change = change + log_ratio
        # A walker on a node or at a non-finite density accepts the first finite proposal.
        accept = (change > threshold) | (~torch.isfinite(log) & torch.isfinite(proposed))
        x[:, own] = torch.where(accept[:, None, None], proposal, x[:, own])
        values[:, own] = torch.where(accept[:, None], row.values, values[:, own])
        logs[:, own] = torch.where(accept, row.log, logs[:, own])
        accepted[kind] += accept.double().mean()
        return torch.where(accept, proposed, log)
