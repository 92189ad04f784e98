"""Hessian of a vibrational analysis: calculated with its progress, in several processes where that is possible."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from omegaconf import OmegaConf

from fusion.errors import CalculationError
from fusion.methods import abilities, protocol
from fusion.runs.results import Result
from fusion.tasks.structures import executors

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.recorded import Journal
    from fusion.methods.separate import Share
    from fusion.runs.run import Run
    from fusion.tasks.vibrations.intensities import Intensities

NEEDS: Final = frozenset({"energy", "forces", "hessian"})


def calculated(journal: Journal, system: System, intensities: Intensities, spread: bool, run: Run) -> Result:
    """Energy, forces and Hessian (3A, 3A); the members' Hessians where `spread` requests them and the method has them;
    the dipole where the method gives one, and its derivatives where they cost nothing more.

    Raises CalculationError without a Hessian."""
    from fusion.console.phases import phase
    from fusion.methods.separate import Separate

    properties = set(NEEDS)
    if spread and "hessian_members" in journal.provides:
        properties.add("hessian_members")
    properties |= intensities.beside_hessian(journal, system)
    numerical = "hessian" not in journal.provides
    total = 6 * len(system.symbols) if numerical else 1
    how = "by differences of forces" if numerical else "analytic"
    with ExitStack() as stack:
        if numerical and abilities.separable(journal.method):
            share = _share(run)
            node: Any = OmegaConf.to_container(run.config.method, resolve=True)
            journal.separate = stack.enter_context(Separate(journal.method, node, share))
            how += f" in {share.processes} processes" if share.processes > 1 else ""
        bar = stack.enter_context(phase("Hessian", total))
        if numerical:
            journal.watch = lambda done: bar(done, how)
        (result,) = protocol.calculate(journal, [system], properties)
        bar(total, how)
    journal.watch = journal.separate = None
    if result.status != "ok":
        raise CalculationError(f"no Hessian: {result.message or result.status}")
    return result


def save(path: Path, hessian: np.ndarray) -> None:
    """Write a Hessian (3A, 3A) to a file that is complete or absent."""
    from fusion.files.atomic import replacing

    with replacing(path) as file:
        np.save(file, hessian)


def _share(run: Run) -> Share:
    """Processes for displaced geometries: those of executor=pool, by default one for each core."""
    from fusion.methods.separate import Share

    settings = run.config.get("executor") or {}
    workers = settings.get("workers") if settings.get("_target_") == executors.POOL else None
    shared = executors.share(workers, batched=False)
    return Share(shared.workers, shared.threads)
