"""Diffusion Monte Carlo after the phases of variational Monte Carlo, as the same LightningModule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusion.console.format import with_error
from fusion.errors import CalculationError
from fusion.parallel.collectives import from_first_rank, gather_rows, mean_over_ranks, own_rows, world_size
from fusion.wavefunctions.diffusion import BLOCK, phase_of
from fusion.wavefunctions.diffusion.population import branched
from fusion.wavefunctions.diffusion.walk import Measure, Walk, Walkers, place
from fusion.wavefunctions.jets import LogPsi
from fusion.wavefunctions.statistics import blocked
from fusion.wavefunctions.vmc import VariationalMonteCarlo

MEMORY = 1.0
"""Projection time (1/hartree) over which the estimate of the energy forgets."""


@dataclass(frozen=True)
class DiffusionSchedule:
    """Time steps (1/hartree) in the order in which they run, and the steps of each, of which the first equilibrate."""

    time_steps: tuple[float, ...]
    steps: int
    equilibration: int


class DiffusionMonteCarlo(VariationalMonteCarlo):
    """Phases of variational Monte Carlo, then one phase of fixed-node diffusion Monte Carlo for every time step.

    The number of walkers is fixed: after every step a comb of their weights decides which go on. A checkpoint has all
    that resuming needs.
    """

    keeps_evaluation = True

    def __init__(self, *args: Any, diffusion: DiffusionSchedule) -> None:
        super().__init__(*args)
        self.diffusion = diffusion
        self.time_steps = {phase_of(tau): tau for tau in diffusion.time_steps}
        self.phases = (*self.phases, *self.time_steps)
        self.done |= dict.fromkeys(self.time_steps, 0)
        self.projected: dict[str, list[float]] = {phase: [] for phase in self.time_steps}  # energies, hartree
        self.log_weights: dict[str, list[float]] = {phase: [] for phase in self.time_steps}
        self.effective: dict[str, float] = {}  # tau_eff / tau of the time steps that have run
        self.walkers: Walkers | None = None
        self.energy = self.squared = self.accepted_squared = 0.0
        self._state: dict[str, Any] = {}

    def total(self, phase: str) -> int:
        """Number of iterations of a phase; those of diffusion are blocks of steps."""
        return -(-self.diffusion.steps // BLOCK) if phase in self.time_steps else super().total(phase)

    @property
    def phase_text(self) -> str:
        """Energy of diffusion with its error so far, and acceptance."""
        if self._phase not in self.time_steps:
            return super().phase_text
        series = self.projected[self._phase]
        if not series:
            return ""
        kept = series[self.diffusion.equilibration :]
        note = "" if len(kept) > 1 else "  equilibrating"
        energy = blocked(np.array(kept if len(kept) > 1 else series))
        return f"E = {with_error(energy.value, energy.stderr)} Ha  accept {self.acceptance:.1%}{note}"

    def begin(self, phase: str) -> None:
        """Place the walkers of the first time step where variational Monte Carlo left them; later ones go on."""
        if phase not in self.time_steps:
            super().begin(phase)
            return
        if self.walkers is None:
            self.sampler.burn_in(self.optimisation.log_density, self.schedule.burn_in)
            walkers = place(self.sampler.electrons, self.measure)
            # A walker on a node or at a nucleus cannot move by its drift: it starts at a neighbour's place.
            good = torch.nonzero(torch.isfinite(walkers.energy)).flatten()
            if not len(good):
                raise CalculationError("no walker has a finite local energy to start diffusion from: try dtype=float64")
            self.walkers = walkers.take(good[torch.arange(len(walkers.energy), device=good.device) % len(good)])
            self.energy = float(mean_over_ranks(self.walkers.energy.median()))
        self.squared = self.accepted_squared = 0.0

    def iterate(self, phase: str) -> dict[str, Any]:
        """Do a block of time steps, or one iteration of variational Monte Carlo."""
        if phase not in self.time_steps:
            return super().iterate(phase)
        tau = self.time_steps[phase]
        walk = Walk(self.system, self.measure, tau, self.sampler.generator)
        energies = [self._diffuse(walk, phase) for _ in range(BLOCK)]
        return {
            "phase": "diffuse",
            "energy": float(np.mean(energies)),
            "time_step": tau,
            "acceptance": self.acceptance,
            "effective_time_step": tau * self.accepted_squared / self.squared,
        }

    @property
    def measure(self) -> Measure:
        """log|psi| with derivatives, and local energies."""

        def measured(electrons: Tensor) -> tuple[LogPsi, Tensor]:
            local = self.hamiltonian.evaluate(self.ansatz, electrons, self.schedule.chunk)
            return local.psi, local.total

        return measured

    def _diffuse(self, walk: Walk, phase: str) -> float:
        """Do one time step of all walkers and return its energy, weighted."""
        assert self.walkers is not None
        effective = self.accepted_squared / self.squared if self.squared else 1.0
        step = walk.step(self.walkers, self.energy, self.energy, effective)
        acceptance, accepted, proposed = mean_over_ranks(
            torch.stack((step.acceptance, step.accepted_squared, step.proposed_squared))
        ).tolist()
        self.acceptance, self.squared = acceptance, self.squared + proposed
        self.accepted_squared += accepted
        self.effective[phase] = self.accepted_squared / self.squared
        weights, local = gather_rows(step.weight), gather_rows(step.walkers.energy)
        energy = float((weights * local).sum() / weights.sum())
        if not math.isfinite(energy):
            raise CalculationError(
                f"the diffusion at time step {walk.tau:g} has weights that are all zero or not finite: "
                "try smaller task.time_steps"
            )
        # The mean weight, as if E_T had always been zero: estimates of the energy differ from step to step.
        self.log_weights[phase].append(float(weights.mean().log()) - walk.tau * effective * self.energy)
        self.projected[phase].append(energy)
        offset = torch.rand((), generator=self.sampler.generator, dtype=torch.float64, device=weights.device)
        self.walkers = branched(step.walkers, weights, float(from_first_rank(offset)))
        self.energy += min(1.0, walk.tau / MEMORY) * (energy - self.energy)
        return energy

    # -- checkpoints -----------------------------------------------------------------------------------------------
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add walkers, energies and weights of the diffusion to the state of variational Monte Carlo."""
        super().on_save_checkpoint(checkpoint)
        walkers = None
        if self.walkers is not None:
            walkers = {name: gather_rows(column).cpu() for name, column in self.walkers._asdict().items()}
        checkpoint["dmc"] = {
            "time_steps": list(self.time_steps.values()),
            "projected": {phase: list(values) for phase, values in self.projected.items()},
            "log_weights": {phase: list(values) for phase, values in self.log_weights.items()},
            "effective": dict(self.effective),
            "walkers": walkers,
            "energy": self.energy,
            "squared": self.squared,
            "accepted_squared": self.accepted_squared,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint.get("dmc", {})
        goes_on = not self.from_another_run and state.get("time_steps") == list(self.time_steps.values())
        self._state = state if goes_on else {}
        super().on_load_checkpoint(checkpoint)

    def _take_counts(self, state: dict[str, Any]) -> None:
        super()._take_counts(state)
        if self.left("optimising"):
            self._state = {}
        # Diffusion with other time steps, or guided by another wavefunction than before, begins anew.
        if not self._state:
            self.done |= dict.fromkeys(self.time_steps, 0)
            self._phase = self.next_phase or self.phases[-1]

    def on_train_start(self) -> None:
        """Build what a variational run has, and restore the populations of a stored diffusion."""
        super().on_train_start()
        if not self._state:
            return
        self.projected = {phase: list(values) for phase, values in self._state["projected"].items()}
        self.log_weights = {phase: list(values) for phase, values in self._state["log_weights"].items()}
        self.effective = dict(self._state.get("effective", {}))
        for name in ("energy", "squared", "accepted_squared"):
            setattr(self, name, self._state[name])
        stored = self._state["walkers"]
        if stored is not None:
            number = self.schedule.walkers // world_size() * world_size()
            rows = torch.arange(number) % len(stored["age"])
            columns = {name: own_rows(stored[name][rows]).to(self.device) for name in Walkers._fields}
            dtype = next(self.ansatz.parameters()).dtype  # may be another one than before
            of_psi = {name: columns[name].to(dtype) for name in ("electrons", "sign", "log", "gradient")}
            self.walkers = Walkers(**(columns | of_psi))
