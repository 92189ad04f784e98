"""Estimated cost of a run: memory before any allocation, time from one small sample."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.wavefunctions.hamiltonians import Hamiltonian
from fusion.wavefunctions.jets.modules import SelfAttention
from fusion.wavefunctions.sampler import initial_electrons
from fusion.wavefunctions.scores import LinearScores, ScoreRecorder

_BASE = 700 * 2**20  # Python with torch, Lightning and PySCF loaded
_JET_COPIES = 6  # number of temporaries of the size of one layer's jet, see jets/


@dataclass(frozen=True)
class Cost:
    """Peak memory of one process (bytes), and times (seconds): of an optimisation step, of an evaluation iteration, and
    of the local energies of all walkers alone."""

    memory: int
    optimisation_s: float
    evaluation_s: float
    energy_s: float


def default_chunk(system: System) -> int:
    """Number of walkers per forward Laplacian: few enough that one layer stays in the cache."""
    n = system.n_electrons
    return max(4, min(256, 4096 // (n * (3 * n + 2))))


def estimate(
    system: System,
    ansatz: nn.Module,
    hamiltonian: Hamiltonian,
    walkers: int,
    chunk: int,
    moves: int,
    evaluation_moves: int,
    all_walkers: int,
) -> Cost:
    """Estimate the cost of a run with ``walkers`` per process, ``all_walkers`` in all.

    Raises:
        InputError: the run needs more memory than is free; the message says how much and what to change.
    """
    dtype = next(ansatz.parameters()).dtype
    n = system.n_electrons
    width = max((_width(module, n) for module in ansatz.modules()), default=0) or 64
    jet = (3 * n + 2) * n * width * dtype.itemsize * _JET_COPIES
    parameters = sum(p.numel() for p in ansatz.parameters())
    fixed = _BASE + jet * min(chunk, walkers) + 6 * 8 * all_walkers**2 + 6 * dtype.itemsize * parameters
    _check(fixed, system, walkers)
    stream = torch.Generator().manual_seed(0)
    electrons = initial_electrons(system, min(chunk, walkers), stream).to(dtype)
    recorder = ScoreRecorder(ansatz, len(electrons))
    per_walker = sum(_size(block) for block in recorder(electrons[:1]).blocks)
    # Factors of the walkers of this process, and of all walkers while the Gram matrix is formed.
    memory = fixed + per_walker * walkers * 2 + (per_walker * all_walkers if all_walkers > walkers else 0)
    _check(memory, system, walkers)
    per_chunk = walkers / len(electrons)
    with torch.no_grad():
        forward = _seconds(lambda: ansatz(electrons)) * per_chunk
        energy = _seconds(lambda: hamiltonian.local_energy(ansatz, electrons, chunk, stream)) * per_chunk
    scores = _seconds(lambda: recorder(electrons)) * per_chunk
    optimisation = 1.2 * (moves * forward + energy + 1.5 * scores)
    return Cost(int(memory), optimisation, evaluation_moves * forward + energy, energy)


def available_memory() -> int:
    """Bytes that a process can still use on this machine without swapping."""
    return int(psutil.virtual_memory().available)


def _check(memory: float, system: System, walkers: int) -> None:
    free = available_memory()
    if memory > 0.95 * free:
        raise InputError(
            f"{system.formula} with {walkers} walkers needs about {memory / 2**30:.1f} GiB of memory, "
            f"{free / 2**30:.1f} GiB are free; fewer method.walkers, a smaller method.chunk or a smaller network "
            "need less"
        )


def _width(module: nn.Module, electrons: int) -> int:
    """Numbers per electron in the largest jet of a layer: of an attention, those of logits and probabilities."""
    if isinstance(module, SelfAttention):
        return 2 * module.heads * electrons
    return module.out_features if isinstance(module, nn.Linear) else 0


def _size(block: Any) -> int:
    tensors: tuple[Tensor, ...] = (
        (block.inputs, block.shared, block.outputs) if isinstance(block, LinearScores) else (block.rows,)
    )
    return sum(t.numel() * t.element_size() for t in tensors)


def _seconds(work: Callable[[], Any]) -> float:
    """Shortest time of three calls, after one that warms up the caches."""
    work()
    times = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
