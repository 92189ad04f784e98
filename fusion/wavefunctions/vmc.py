"""Variational Monte Carlo of any ansatz as a LightningModule: pretraining, optimisation, evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.console.format import with_error
from fusion.parallel.collectives import gather_rows, own_rows, random_stream, world_size
from fusion.runs import metrics
from fusion.runs.checkpoints import drop_rows
from fusion.wavefunctions import saved_state
from fusion.wavefunctions.ansatz import CHECKED, check_forward
from fusion.wavefunctions.checkpoint import identity, with_current_names
from fusion.wavefunctions.clipping import clip
from fusion.wavefunctions.estimators import Estimator, clear
from fusion.wavefunctions.hamiltonians import Hamiltonian, Point
from fusion.wavefunctions.hartree_fock import HartreeFock
from fusion.wavefunctions.iterations import Iterations
from fusion.wavefunctions.optimisation import Optimisation
from fusion.wavefunctions.optimisers import Optimiser
from fusion.wavefunctions.periodic.cell import cell_of
from fusion.wavefunctions.pretraining import Pretraining
from fusion.wavefunctions.proposals import Proposal
from fusion.wavefunctions.remaining import is_within
from fusion.wavefunctions.sampler import Metropolis, initial_electrons
from fusion.wavefunctions.schedule import PHASES, Schedule, evaluation_steps
from fusion.wavefunctions.statistics import blocked
from fusion.wavefunctions.transfer import Start

_ROW_NAMES = dict(zip(PHASES, ("pretrain", "optimise", "evaluate"), strict=True))
RECORDED = 4  # chunks of the Laplacian that one chunk of the optimiser has: a gradient needs less memory
CHECKED_EVERY = 50  # number of optimisation steps between estimates of the remaining error
_WINDOW = 100  # number of iterations in the average energy of the progress line


class VariationalMonteCarlo(pl.LightningModule):
    """Run pretraining, optimisation and evaluation, one iteration a batch; a checkpoint has all that resuming needs.

    Optimisation is manual: gradients come from walkers, not from a loss, and the optimisers reduce them over ranks.

    Args:
        system: nuclei and electrons.
        ansatz: the wavefunction.
        hamiltonian: terms of the local energy.
        schedule: lengths of the phases.
        optimiser: builds the optimiser from (ansatz, chunk).
        hartree_fock: mean field for pretraining, computed when pretraining starts.
        proposals: kinds of Metropolis moves, in turn.
        seed: seed of all random streams.
        settings: settings of the ansatz, which must agree with those of a checkpoint.
        estimators: observables to measure in the evaluation.
    """

    keeps_evaluation = False
    """True if an evaluation of the same wavefunction by another run counts."""

    def __init__(
        self,
        system: System,
        ansatz: nn.Module,
        hamiltonian: Hamiltonian,
        schedule: Schedule,
        optimiser: Callable[..., Optimiser],
        hartree_fock: Callable[[], HartreeFock],
        proposals: Sequence[Proposal],
        seed: int,
        settings: dict[str, Any] | None = None,
        estimators: Sequence[Estimator] = (),
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.system, self.schedule, self.seed, self.settings = system, schedule, seed, settings or {}
        self.ansatz, self.hamiltonian = ansatz, hamiltonian
        self.estimators = tuple(estimators)
        self._make_optimiser, self._hartree_fock, self._proposals = optimiser, hartree_fock, tuple(proposals)
        self.phases: tuple[str, ...] = PHASES
        self.done = dict.fromkeys(PHASES, 0)
        self.energies: dict[str, list[float]] = {"optimising": [], "evaluating": []}
        self.variances: list[float] = []  # of the steps in energies["optimising"]
        self.within = False  # True once the remaining error is below schedule.until
        self.series: dict[str, list[Any]] = {}  # of the evaluation, by the names of `metrics.csv` and of the estimators
        self.iterations = 0  # of this process, for averages over them
        self.lost = 0  # number of local energies in the evaluation that were not finite
        self.loss = self.variance = self.acceptance = float("nan")
        self.restored: dict[str, Any] = {}
        self.start: Start | None = None
        self.started = False  # True if the run began at an optimised wavefunction, of another geometry or of the zoo
        self.from_another_run = (
            False  # True: use only the wavefunction of the checkpoint, not its evaluation and random streams
        )
        self._phase = next((phase for phase in PHASES if schedule.total(phase)), PHASES[-1])

    # -- text of the progress bar ----------------------------------------------------------------------------------
    @property
    def phase(self) -> str:
        """Phase of the last iteration; before any, of the first one."""
        return self._phase

    @property
    def phase_step(self) -> int:
        return self.done[self._phase]

    @property
    def phase_total(self) -> int:
        return self.total(self._phase)

    @property
    def phase_text(self) -> str:
        """Energy with its error over the last iterations of this phase, variance, acceptance."""
        if self._phase == "pretraining":
            return f"orbital error {self.loss:.1e}" if self.loss == self.loss else ""
        if self.variance != self.variance:  # this process has no energy yet
            return ""
        series = self.energies[self._phase]
        energy = blocked(np.array(series if self._phase == "evaluating" else series[-_WINDOW:]))
        text = (
            f"E = {with_error(energy.value, energy.stderr)} Ha  var {self.variance:.2g}  accept {self.acceptance:.0%}"
        )
        rejected = self.optimisation.rejected if self._phase == "optimising" else 0
        return text + (f"  {rejected} rejected" if rejected else "")

    # -- Lightning's hooks -----------------------------------------------------------------------------------------
    def configure_optimizers(self) -> None:
        """Return None: optimisation is manual."""

    def train_dataloader(self) -> Iterations:
        return Iterations(self)

    @property
    def next_phase(self) -> str | None:
        """Phase of the next iteration; None if all phases are done."""
        return next((phase for phase in self.phases if self.left(phase)), None)

    def start_from(self, start: Start) -> None:
        """Start at a wavefunction of this or another geometry, with the last steps of the optimisation."""
        self.start, self.started = start, True
        self.done |= {"pretraining": self.schedule.pretraining_steps, "optimising": self.schedule.before_transfer}
        self._phase = self.next_phase or self.phases[-1]

    @property
    def end(self) -> Start:
        """The present wavefunction, for another geometry."""
        parameters = {name: p.detach().clone() for name, p in self.ansatz.named_parameters()}
        return Start(parameters, gather_rows(self.sampler.electrons), self.system.positions)

    def total(self, phase: str) -> int:
        """Largest number of iterations of a phase, as far as is known."""
        if phase == "evaluating":
            return evaluation_steps(self.energies["evaluating"], self.schedule)
        return self.schedule.total(phase)

    def left(self, phase: str) -> int:
        """Remaining iterations of a phase; pretraining is over once optimisation has begun, and optimisation once the
        remaining error is small enough."""
        if (phase == "pretraining" and self.done["optimising"]) or (phase == "optimising" and self.within):
            return 0
        return max(0, self.total(phase) - self.done[phase])

    def on_train_start(self) -> None:
        """Build sampler and optimiser; walkers are random, those of another geometry, or those of the checkpoint."""
        self._phase = self.next_phase or self.phases[-1]
        own = () if self.start is None else self.start.stream(self.system.positions)
        generator = random_stream(self.seed, self.device, "moves", sum(self.done.values()), *own)
        walkers = self.schedule.walkers // world_size()
        for estimator in self.estimators:
            cast(nn.Module, estimator).to(self.device)
        dtype = next(self.ansatz.parameters()).dtype
        self.sampler = self.new_sampler(generator)
        if not self.restored:
            placing = random_stream(self.seed, "cpu", "places")
            self.sampler.electrons = self.first_electrons(walkers, placing).to(self.device, dtype)
            if self.start is not None:
                self.start.give(self.ansatz, self.system.positions)
                moved = self.start.electrons_at(self.system.positions).to(self.device, dtype)
                self.sampler.electrons = own_rows(moved[torch.arange(walkers * world_size()) % len(moved)]).clone()
            check_forward(self.ansatz, self.sampler.electrons[:CHECKED])
        self.optimiser = self._make_optimiser(self.ansatz, RECORDED * self.schedule.chunk)
        self.optimisation = self.new_optimisation(
            self.ansatz,
            self.hamiltonian,
            self.sampler,
            self.optimiser,
            self.schedule.moves,
            self.schedule.clip,
            self.schedule.chunk,
        )
        self.fitting: Pretraining | None = None
        if self.start is not None and self.done["optimising"]:  # otherwise the first iteration begins its phase
            self.begin("optimising")
        if self.restored:
            saved_state.restore(self, self.restored, walkers)

    def new_sampler(self, generator: torch.Generator) -> Metropolis:
        """Build the sampler of this rank; its walkers follow."""
        return Metropolis(torch.empty(0), generator, proposals=self._proposals, cell=cell_of(self.system))

    def new_optimisation(self, *args: Any) -> Optimisation:
        """Build the optimisation from its arguments."""
        return Optimisation(*args)

    def first_electrons(self, walkers: int, generator: torch.Generator) -> Tensor:
        """Draw the first electrons of walkers of this rank."""
        return initial_electrons(self.system, walkers, generator)

    @torch.no_grad()
    def training_step(self, batch: int, batch_idx: int) -> None:
        phase = self.next_phase
        if phase is None:
            return
        self._phase = phase
        if self.done[phase] == 0:
            self.begin(phase)
        row = self.iterate(phase)
        self.done[phase] += 1
        self.iterations += 1
        step = sum(self.done.values()) - 1
        metrics.log(self.trainer, row, step)

    def iterate(self, phase: str) -> dict[str, Any]:
        """Do one iteration of a phase and return its row of metrics.csv."""
        row = {"pretraining": self._pretrain, "optimising": self._optimise, "evaluating": self._evaluate}[phase]()
        return {"phase": _ROW_NAMES[phase], **row}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add all that resuming needs beside the parameters."""
        checkpoint["vmc"] = saved_state.saved(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the state of this run, or the wavefunction alone if the checkpoint is of another geometry."""
        # This module counts iterations. Lightning's own count would stop a run that has been finished once.
        checkpoint.pop("loops", None)
        for part in ("state_dict", "vmc"):
            checkpoint[part] = with_current_names(checkpoint[part], self.ansatz)
        if checkpoint["vmc"]["identity"]["positions"] != identity(self.system, self.ansatz, {})["positions"]:
            # Take parameters and walkers; what else the checkpoint has belongs to the other geometry.
            self.start_from(saved_state.wavefunction_of(checkpoint, self.ansatz))
            checkpoint["state_dict"] = self.state_dict()
            drop_rows(checkpoint, sum(checkpoint["vmc"]["done"].values()))
            return
        self.restored = checkpoint["vmc"]
        self._take_counts(self.restored)
        drop_rows(checkpoint, sum(self.restored["done"].values()) - sum(self.done.values()))

    # -- phases ----------------------------------------------------------------------------------------------------
    def begin(self, phase: str) -> None:
        """Equilibrate the walkers for the density that the phase samples; an evaluation has measured nothing yet."""
        if phase == "pretraining":
            self.sampler.burn_in(self.pretraining.log_density, self.schedule.burn_in)
        else:
            if phase == "evaluating":
                self.optimisation.take_average()
                for estimator in self.estimators:
                    clear(estimator)
            self.sampler.burn_in(self.optimisation.log_density, self.schedule.burn_in)

    @property
    def pretraining(self) -> Pretraining:
        if self.fitting is None:
            orbitals = self._hartree_fock().orbitals.to(self.sampler.electrons)
            self.fitting = Pretraining(self.ansatz, orbitals, self.schedule.pretraining_rate)
        return self.fitting

    def _pretrain(self) -> dict[str, Any]:
        loss = self.pretraining.step(self.sampler, 1 - self.done["pretraining"] / self.schedule.pretraining_steps)
        self.loss = loss
        return {"loss": loss, "acceptance": self.sampler.acceptance, "width": self.sampler.widths[0]}

    def _optimise(self) -> dict[str, Any]:
        self.fitting = None
        iteration = self.done["optimising"]
        measured = self.optimisation.step(iteration)
        if not measured.rejected:  # undone steps are in metrics.csv, but are no energies of this run's wavefunction
            self.energies["optimising"].append(measured.energy)
            self.variances.append(measured.variance)
        until = self.schedule.until
        if until is not None and (iteration + 1) % CHECKED_EVERY == 0:
            self.within = is_within(self.energies["optimising"], self.variances, until)
        self.variance, self.acceptance = measured.variance, measured.acceptance
        return {
            "energy": measured.energy,
            "kinetic": measured.kinetic,
            "potential": measured.energy - measured.kinetic,
            "stderr": (measured.variance / self.schedule.walkers) ** 0.5,
            "variance": measured.variance,
            "acceptance": measured.acceptance,
            "width": self.sampler.widths[0],
            "learning_rate": measured.rate,
            "caution": self.optimiser.caution,
            "rejected": self.optimisation.rejected,
        }

    def _evaluate(self) -> dict[str, Any]:
        acceptance = self.sampler.run(self.optimisation.log_density, self.schedule.evaluation_moves)
        point = Point(self.ansatz, self.sampler.electrons, self.schedule.chunk, self.sampler.generator)
        measured = self.hamiltonian.at(point)
        local = clip(measured.total, self.schedule.clip)
        row: dict[str, Any] = {"variance": local.variance, "acceptance": acceptance}
        for estimator in self.estimators:
            if self.done["evaluating"] % estimator.every == 0:
                row |= {key: local.mean_of(values).tolist() for key, values in estimator(point, measured).items()}
        for key, value in row.items():
            self.series.setdefault(key, []).append(value)
        self.energies["evaluating"].append(local.mean)
        self.lost += int((~local.finite).sum())
        self.variance, self.acceptance = local.variance, acceptance
        return {
            "energy": local.mean,
            "stderr": (local.variance / self.schedule.walkers) ** 0.5,
            "width": self.sampler.widths[0],
            **{key: value for key, value in row.items() if isinstance(value, float)},
        }

    def _take_counts(self, state: dict[str, Any]) -> None:
        saved_state.restore_counts(self, state)
        self._phase = self.next_phase or self.phases[-1]
