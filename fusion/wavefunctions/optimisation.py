"""Energy minimisation, one safeguarded step at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fusion.errors import CalculationError
from fusion.parallel.collectives import from_first_rank
from fusion.wavefunctions.clipping import Clipped, clip
from fusion.wavefunctions.hamiltonians import Hamiltonian, LocalEnergy
from fusion.wavefunctions.optimisers import Optimiser
from fusion.wavefunctions.sampler import Metropolis


class Measured(NamedTuple):
    """One iteration: energy, its kinetic part and its variance over the walkers of all ranks (hartree), acceptance,
    learning rate and rejection."""

    energy: float
    kinetic: float
    variance: float
    acceptance: float
    rate: float
    rejected: bool


class Optimisation:
    """Iterate sampling, measurement, check and step.

    The quality of a step shows in the following energies, within their noise. The state (parameters, walkers) is saved
    as an anchor every ``ANCHOR`` iterations while the running mean of the clipped energy is as low as at the last
    anchor. All steps since the anchor are undone if the running mean rises ``DRIFT`` standard errors of one iteration
    above the anchor's energy, if a single energy lies ``JUMP`` above it, or if local energies or a step are not finite.
    Parameters and walkers are restored, momentum is reset, and the optimiser's caution grows, to relax slowly later.

    After too large a step, walkers of the previous psi have local energies of the new psi far below any true one. Such
    a drop, by more than the spread of the anchor's local energies, is undone like a rise. The first energy after
    undoing belongs to the anchor, and corrects its energy if that was too low.

    Steps follow the noise of the walkers, and parameters that follow noise have a higher energy than their mean. The
    weighted mean of all parameters so far,

        average_t = (1 - w) average_(t-1) + w parameters_t,    w = (AVERAGING + 1) / (t + AVERAGING),

    about that of the last t / (AVERAGING + 1) of the t steps since the start, is what ``take_average`` hands to the
    evaluation (Shamir & Zhang 2013, ICML, polynomial-decay averaging).

    Args:
        ansatz: the wavefunction.
        hamiltonian: computes local energies.
        sampler: the walkers of this rank.
        optimiser: proposes steps.
        moves: Metropolis moves between steps.
        clip_width: width of the clipping of local energies, in mean absolute deviations.
        chunk: walkers whose Laplacian is computed at a time.
    """

    ANCHOR = 10
    MEMORY = 0.9  # weight of the past in the running mean: about the last ten iterations
    DRIFT, JUMP = 5.0, 12.0
    CAUTION = 4.0  # factor per rejection
    RELAXATION = 0.99  # per good iteration, back towards 1
    AVERAGING = 8.0
    LIMIT = 25  # rejections without a single new anchor in between

    def __init__(
        self,
        ansatz: nn.Module,
        hamiltonian: Hamiltonian,
        sampler: Metropolis,
        optimiser: Optimiser,
        moves: int,
        clip_width: float,
        chunk: int,
    ) -> None:
        self.ansatz, self.hamiltonian, self.sampler, self.optimiser = ansatz, hamiltonian, sampler, optimiser
        self.moves, self.clip_width, self.chunk = moves, clip_width, chunk
        self.parameters = {name: p for name, p in ansatz.named_parameters() if p.requires_grad}
        self.rejected = 0
        self.since_anchor = 0
        self.failures = 0
        self.running = self.last = 0.0
        self.restored = False
        self.anchor: dict[str, Any] = {}
        self.average: dict[str, Tensor] | None = {}  # None in a run of an earlier version, which ends without it
        self.averaged: int | None = 0  # t; None in a run of an earlier version, whose start is its first iteration

    def log_density(self, electrons: Tensor) -> Tensor:
        """2 log|psi|, (B,), a few chunks at a time, which limits the memory and keeps batches in the cache."""
        return torch.cat([2 * self.ansatz(part)[1] for part in electrons.split(4 * self.chunk)])

    def step(self, iteration: int) -> Measured:
        """Do one iteration: moves, local energies, and either a step or the undoing of the last steps.

        Raises:
            CalculationError: undoing and caution do not help any more.
        """
        acceptance = self.sampler.run(self.log_density, self.moves)
        self.sampler.adapt(strength=0.1)
        electrons, stream = self.sampler.electrons, self.sampler.generator
        measured = self.hamiltonian.evaluate(self.ansatz, electrons, self.chunk, stream)
        local = clip(measured.total, self.clip_width)
        deviation = self.deviation(measured, local)
        rate = self.optimiser.rate(iteration, deviation)
        row = (local.mean, float(local.mean_of(measured.terms["kinetic"])), local.variance, acceptance, rate)
        if self._worse(local):
            self._undo()
            return Measured(*row, True)
        self._remember(local)
        step = self.optimiser.step(electrons, deviation, iteration)
        step = {name: from_first_rank(change) for name, change in step.items()}
        if not all(bool(torch.isfinite(change).all()) for change in step.values()):
            self._undo()
            return Measured(*row, True)
        with torch.no_grad():
            for name, change in step.items():
                self.parameters[name].add_(change)
        self._average(iteration)
        self.optimiser.caution = max(1.0, self.optimiser.caution * self.RELAXATION)
        return Measured(*row, False)

    def deviation(self, measured: LocalEnergy, local: Clipped) -> Tensor:
        """Clipped deviations (B,) of the walkers of all ranks, which take the place of E_L - E in the gradient."""
        return local.deviation

    @torch.no_grad()
    def take_average(self) -> None:
        """Replace the parameters by their average; without a step so far, they stay."""
        for name, value in (self.average or {}).items():
            self.parameters[name].copy_(value)

    @torch.no_grad()
    def _average(self, iteration: int) -> None:
        if self.average is None:
            return
        self.averaged = (iteration if self.averaged is None else self.averaged) + 1
        weight = (self.AVERAGING + 1) / (self.averaged + self.AVERAGING) if self.average else 1.0
        before = self.average or {name: p.detach() for name, p in self.parameters.items()}
        self.average = {name: before[name].lerp(p, weight) for name, p in self.parameters.items()}

    def state_dict(self) -> dict[str, Any]:
        """Counters, average and anchor; the owners of parameters, walkers and optimiser save these."""
        counters = {
            key: getattr(self, key)
            for key in ("rejected", "since_anchor", "failures", "running", "last", "restored", "averaged")
        }
        return {**counters, "average": self.average, "anchor": self.anchor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for key, value in {"average": None, "averaged": None, **state}.items():
            setattr(self, key, value)

    def _worse(self, local: Clipped) -> bool:
        if int(local.finite.sum()) < 0.95 * len(local.finite):
            return True
        before, self.last = self.last, local.clipped_mean
        if not self.anchor:
            self.running = local.clipped_mean
            return False
        if self.restored:
            self.anchor["energy"] = self.running = max(self.anchor["energy"], local.clipped_mean)
            self.restored = False
            return False
        self.running = self.MEMORY * self.running + (1 - self.MEMORY) * local.clipped_mean
        energy, stderr = self.anchor["energy"], self.anchor["stderr"]
        spread = stderr * len(local.energies) ** 0.5
        plunge = local.clipped_mean < before - spread - self.JUMP * stderr
        return plunge or local.clipped_mean > energy + self.JUMP * stderr or self.running > energy + self.DRIFT * stderr

    def _remember(self, local: Clipped) -> None:
        self.since_anchor += 1
        if self.anchor:
            too_high = self.running > self.anchor["energy"] + self.anchor["stderr"]
            if too_high or self.since_anchor < self.ANCHOR:
                return
        self.anchor = {
            "energy": self.running,
            "stderr": float(local.deviation.std()) / len(local.deviation) ** 0.5,
            "parameters": {name: p.detach().clone() for name, p in self.parameters.items()},
            "average": None if self.average is None else dict(self.average),
            "averaged": self.averaged,
            "electrons": self.sampler.electrons.clone(),
            "sampler": self.sampler.state_dict(),
        }
        self.since_anchor, self.failures = 0, 0

    def _undo(self) -> None:
        self.rejected += 1
        self.failures += 1
        if not self.anchor or self.failures > self.LIMIT:
            raise CalculationError(
                f"optimisation failed: {self.failures} steps in a row were rejected although the damping was "
                "raised each time; try a smaller method.optimiser.learning_rate.rate, more walkers or float64"
            )
        with torch.no_grad():
            for name, value in self.anchor["parameters"].items():
                self.parameters[name].copy_(value)
        average = self.anchor.get("average")
        self.average = None if average is None else dict(average)
        self.averaged = self.anchor.get("averaged")
        self.sampler.electrons = self.anchor["electrons"].clone()
        self.sampler.load_state_dict(self.anchor["sampler"])
        self.optimiser.reset()
        self.optimiser.caution *= self.CAUTION
        self.running = self.last = self.anchor["energy"]
        self.restored = True
        self.since_anchor = 0
