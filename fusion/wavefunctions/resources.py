"""Estimated cost of a run: memory before any allocation, time from one small sample."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.parallel.memory import available_memory
from fusion.wavefunctions.ansatz import CHECKED, check_forward, sets_of
from fusion.wavefunctions.hamiltonians import Hamiltonian
from fusion.wavefunctions.jets.modules import SelfAttention
from fusion.wavefunctions.sampler import first_sets
from fusion.wavefunctions.schedule import Schedule
from fusion.wavefunctions.scores import ScoreRecorder
from fusion.wavefunctions.scores.memory import SHARE, gram_memory, recordings

_BASE = 700 * 2**20  # Python with torch, Lightning and PySCF loaded
_JET_COPIES = 6  # number of temporaries of the size of one layer's jet, see jets/
_WALKER_COPIES = 10  # arrays of the size of the electrons: positions, proposals, gradients, the anchor's walkers
_MOST = 0.95  # largest share of the free memory that a run may need


@dataclass(frozen=True)
class Cost:
    """Peak memory of one process (bytes), and times (seconds): of an optimisation step, of an evaluation iteration, and
    of the local energies of all walkers alone.

    `groups`: number of groups in which walkers are differentiated, from the free memory.
    """

    memory: int
    optimisation_s: float
    evaluation_s: float
    energy_s: float
    groups: int = 1


@dataclass(frozen=True)
class _Memory:
    """Bytes that a process needs for what it always has, the jets of a chunk, walkers, Gram matrix and scores."""

    base: int
    jets: int
    walkers: int
    gram: int
    scores: int = 0

    @property
    def total(self) -> int:
        return self.base + self.jets + self.walkers + self.gram + self.scores


def default_chunk(system: System) -> int:
    """Number of walkers per forward Laplacian: few enough that one layer stays in the cache."""
    n = system.n_electrons
    return max(4, min(256, 4096 // (n * (3 * n + 2))))


def estimate(
    system: System,
    ansatz: nn.Module,
    hamiltonian: Hamiltonian,
    schedule: Schedule,
    recorder: ScoreRecorder | None,
    ranks: int = 1,
    free: float | None = None,
) -> Cost:
    """Estimate the cost of a run, of which every rank does its part.

    Without ``recorder``, the optimiser needs no scores. ``free`` bytes are what one rank may use; default is its part
    of the free memory of this machine.

    Raises:
        InputError: the run needs more memory than is free; the message says how much and what to change.
        CalculationError: the wavefunction does not return sign and log|psi| of every walker.
    """
    walkers, chunk = schedule.walkers // ranks, min(schedule.chunk, schedule.walkers // ranks)
    free = available_memory() / ranks if free is None else free
    pairs = recorder is not None and recorder.pairs
    memory = _without_scores(system, ansatz, walkers, schedule.walkers if pairs else 0, chunk)
    _check(memory, free, system, schedule, ranks)
    stream = torch.Generator().manual_seed(0)
    electrons = first_sets(system, sets_of(ansatz), chunk, stream).to(next(ansatz.parameters()).dtype)
    check_forward(ansatz, electrons[:CHECKED])
    groups = 1
    if recorder is not None:
        recorder.prepare(electrons)
        scores = recorder.memory(electrons)
        groups = scores.groups(walkers, ranks, SHARE * free - memory.total)
        memory = replace(memory, scores=scores.needed(walkers, groups, ranks))
        _check(memory, free, system, schedule, ranks)
    per_chunk = walkers / chunk
    with torch.no_grad():
        forward = _seconds(lambda: ansatz(electrons)) * per_chunk
        energy = _seconds(lambda: hamiltonian.local_energy(ansatz, electrons, chunk, stream)) * per_chunk
    gradient = 3 * forward  # a backward pass takes about twice as long as a forward pass
    if recorder is not None:
        gradient = (recordings(groups, pairs) + 0.5) * _seconds(lambda: recorder.record(electrons)) * per_chunk
    optimisation = 1.2 * (schedule.moves * forward + energy + gradient)
    return Cost(memory.total, optimisation, schedule.evaluation_moves * forward + energy, energy, groups)


def _without_scores(system: System, ansatz: nn.Module, walkers: int, in_gram: int, chunk: int) -> _Memory:
    """Memory that does not depend on the scores; ``in_gram`` walkers of all ranks have a Gram matrix."""
    itemsize, n = next(ansatz.parameters()).dtype.itemsize, system.n_electrons
    width = max((_width(module, n) for module in ansatz.modules()), default=0) or 64
    parameters = sum(p.numel() for p in ansatz.parameters())
    return _Memory(
        base=_BASE + 6 * itemsize * parameters,
        jets=(3 * n + 2) * n * width * itemsize * _JET_COPIES * chunk * sets_of(ansatz),
        walkers=_WALKER_COPIES * 3 * n * itemsize * walkers * sets_of(ansatz),
        gram=gram_memory(in_gram),
    )


def _check(memory: _Memory, free: float, system: System, schedule: Schedule, ranks: int) -> None:
    limit = _MOST * free
    if memory.total <= limit:
        return
    each = f" in each of {ranks} processes" if ranks > 1 else ""
    raise InputError(
        f"{system.formula} with {schedule.walkers} walkers needs about {memory.total / 2**30:.1f} GiB of memory{each}, "
        f"{free / 2**30:.1f} GiB are free; {_advice(memory, limit, schedule, ranks)}"
    )


def _advice(memory: _Memory, limit: float, schedule: Schedule, ranks: int) -> str:
    """Change of the settings that makes a run fit."""
    chunk = min(schedule.chunk, schedule.walkers // ranks)
    for_jets = limit - (memory.total - memory.jets)
    if for_jets >= memory.jets / chunk:
        return f"method.chunk={int(for_jets / memory.jets * chunk)} fits"
    fixed = memory.base + memory.jets / chunk + memory.scores
    if fixed < limit:
        kfac = " or optimiser=kfac" if memory.gram > memory.walkers else ""
        return f"fewer method.walkers{kfac} need less"
    return "fewer electrons (system.ecp) or a smaller network need less"


def _width(module: nn.Module, electrons: int) -> int:
    """Numbers per electron in the largest jet of a layer: of an attention, those of logits and probabilities."""
    if isinstance(module, SelfAttention):
        return 2 * module.heads * electrons
    return module.out_features if isinstance(module, nn.Linear) else 0


def _seconds(work: Callable[[], Any]) -> float:
    """Shortest time of three calls, after one that warms up the caches."""
    work()
    times = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
