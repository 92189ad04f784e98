"""Variational Monte Carlo of several states, as the same LightningModule with walkers of several electron sets."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from fusion.parallel.collectives import mean_over_ranks
from fusion.wavefunctions.ansatz import HasStates
from fusion.wavefunctions.clipping import Clipped, clip
from fusion.wavefunctions.excited.local_matrix import StateEnergy, StateHamiltonian, dipole_elements, spin_elements
from fusion.wavefunctions.excited.pretraining import StatePretraining
from fusion.wavefunctions.excited.sampler import SetMetropolis
from fusion.wavefunctions.excited.state_matrix import StateSets
from fusion.wavefunctions.periodic.cell import cell_of
from fusion.wavefunctions.sampler import first_sets
from fusion.wavefunctions.vmc import VariationalMonteCarlo

MATRIX, DIPOLE, SPIN = "energy_matrix", "dipole_matrix", "spin_matrix"
"""Names of the series of the evaluation: means over the walkers, (S, S) or (3, S, S), of local matrices."""


class ExcitedStates(VariationalMonteCarlo):
    """Optimisation of the determinant of several states, then evaluation of their local matrices.

    The energies of both phases are traces: sums over the states. `ansatz` is a ``StateMatrix`` and `hamiltonian` a
    ``StateHamiltonian``; there are no estimators. S^2 is measured every ``spin_every`` iterations.
    """

    def __init__(self, *args: Any, spin_every: int) -> None:
        super().__init__(*args)
        self.spin_every = spin_every

    @property
    def matrix(self) -> StateSets:
        """The states."""
        return cast(StateSets, self.ansatz)

    def new_sampler(self, generator: torch.Generator) -> SetMetropolis:
        """Build a sampler of electron sets."""
        return SetMetropolis(self.matrix, generator, self._proposals, cell_of(self.system))

    def first_electrons(self, walkers: int, generator: torch.Generator) -> Tensor:
        """Draw the first electron sets of walkers of this rank."""
        return first_sets(self.system, self.matrix.number, walkers, generator)

    def begin(self, phase: str) -> None:
        """Fix the gauge of the states, and equilibrate the walkers."""
        if phase != "pretraining":
            self.sets_sampler.matrix = self.matrix
        super().begin(phase)
        if phase != "pretraining":
            self._fix_gauge()

    @property
    def sets_sampler(self) -> SetMetropolis:
        """The sampler of electron sets."""
        return cast(SetMetropolis, self.sampler)

    @property
    def pretraining(self) -> StatePretraining:
        """The fit to the leading configurations, whose density the sampler follows meanwhile."""
        if self.fitting is None:
            pure = cast(StateHamiltonian, self.hamiltonian).spin_penalty is not None
            self.fitting = StatePretraining(self.matrix, self.system, self.schedule.pretraining_rate, pure)
            self.sets_sampler.matrix = self.fitting.target
        return cast(StatePretraining, self.fitting)

    def _fix_gauge(self) -> None:
        """Divide the states by their typical sizes, so that M is well conditioned."""
        values = cast(HasStates, self.matrix.shared).states(self.matrix.sets(self.sampler.electrons)).values.double()
        logs = values.abs().clamp(min=1e-300).log()
        self.matrix.gauge.copy_(mean_over_ranks(logs.median(0).values))

    def _evaluate(self) -> dict[str, Any]:
        sampler, schedule = self.sampler, self.schedule
        acceptance = sampler.run(self.optimisation.log_density, schedule.evaluation_moves)
        hamiltonian = cast(StateHamiltonian, self.hamiltonian)
        measured = hamiltonian.evaluate(self.matrix, sampler.electrons, schedule.chunk, penalised=False)
        local = clip(measured.total, schedule.clip)
        means = {name: values.tolist() for name, values in self._means(measured, local).items()}
        row = {"variance": local.variance, "acceptance": acceptance}
        for name, value in (row | means).items():
            self.series.setdefault(name, []).append(value)
        self.energies["evaluating"].append(local.mean)
        self.lost += int((~local.finite).sum())
        self.variance, self.acceptance = local.variance, acceptance
        stderr = (local.variance / schedule.walkers) ** 0.5
        return {"energy": local.mean, "stderr": stderr, "width": sampler.widths[0], **row}

    def _means(self, measured: StateEnergy, kept: Clipped) -> dict[str, Tensor]:
        """Means (S, S) or (3, S, S) of local matrices over all walkers, by the names of their series."""
        local, electrons = cast(StateHamiltonian, self.hamiltonian).local, self.sampler.electrons
        moments = dipole_elements(measured.values, electrons)
        dipole = torch.stack([local(measured.values, part) for part in moments.unbind(1)], dim=1)
        matrices = {MATRIX: measured.matrix, DIPOLE: dipole}
        if self.done["evaluating"] % self.spin_every == 0:
            matrices[SPIN] = local(*spin_elements(self.matrix, electrons, self.system, self.schedule.chunk))
        return {name: kept.mean_of(values) for name, values in matrices.items()}
