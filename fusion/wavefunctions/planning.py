"""Phases of a run from the settings of conf/kind/ansatz.yaml: what is null there depends on the system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from fusion.chemistry.system import System
from fusion.config.checks import check_number, check_whole, energy_setting
from fusion.errors import InputError
from fusion.wavefunctions.ansatz import sets_of, takes_pretraining
from fusion.wavefunctions.resources import default_chunk
from fusion.wavefunctions.schedule import Schedule

PRETRAINING_PER_ELECTRON = 100
OPTIMISATION_PER_ELECTRON = 500
EVALUATION_PER_ELECTRON = 150
"""Steps per electron if the settings are null."""

LARGEST_OPTIMISATION = 2000
"""Largest number of optimisation steps, which is in proportion to the states as well, if their setting is null: further
steps of 256 walkers lowered the energy of nitrogen by less than diffusion Monte Carlo in about the same time
(benchmarks/vmc_remaining_errors.md)."""

LONGER = 5
"""Factor of these steps for a phase that ends once its error is small enough."""

TRANSFER = 0.125
"""Share of the optimisation steps at a further geometry if the configuration has none, from before there was one."""

CLIP, CLIP_WITH_CORES = 5.0, 100.0
"""Width of the clipping if its setting is null. Where a core potential replaces the cusp, the kinks of a wavefunction
of distances give local energies far outside of the usual width. Clipped, they leave no trace of the core in the
gradient, and the optimisation may end with a node there."""


class Planning:
    """Settings of the phases, of which `schedule` makes those of a system.

    Raises:
        InputError: a setting is out of range.
    """

    def __init__(
        self,
        walkers: int,
        chunk: int | None,
        pretraining: Mapping[str, Any],
        sampling: Mapping[str, Any],
        optimisation: Mapping[str, Any],
        evaluation: Mapping[str, Any],
    ) -> None:
        until = energy_setting("method.optimisation.until", optimisation.get("until"))
        stderr = energy_setting("method.evaluation.stderr", evaluation.get("stderr"))
        # Settings that are null depend on the system; all others are checked here.
        self.by_electron = {
            key: per_electron if limit is None else LONGER * per_electron
            for key, per_electron, steps, limit in (
                ("pretraining_steps", PRETRAINING_PER_ELECTRON, pretraining["steps"], None),
                ("optimisation_steps", OPTIMISATION_PER_ELECTRON, optimisation["steps"], until),
                ("evaluation_steps", EVALUATION_PER_ELECTRON, evaluation["steps"], stderr),
            )
            if steps is None
        }
        self.largest_optimisation = LARGEST_OPTIMISATION if until is None else LONGER * LARGEST_OPTIMISATION
        self.chunk, self.clip = chunk, optimisation["clip"]
        self.settings = Schedule(
            walkers=walkers,
            chunk=0,
            pretraining_steps=pretraining["steps"] if pretraining["steps"] is not None else 0,
            pretraining_rate=pretraining["learning_rate"],
            burn_in=sampling["burn_in"],
            moves=sampling["moves"],
            optimisation_steps=optimisation["steps"] if optimisation["steps"] is not None else 0,
            clip=self.clip if self.clip is not None else CLIP,
            evaluation_steps=evaluation["steps"] if evaluation["steps"] is not None else EVALUATION_PER_ELECTRON,
            evaluation_moves=evaluation["moves"],
            transfer=_share(optimisation.get("transfer", TRANSFER)),
            until=until,
            evaluation_stderr=stderr,
        )
        _check_ranges(self.settings, chunk)
        check_whole("method.evaluation.spin_every", evaluation["spin_every"], 1)

    def schedule(self, system: System, ansatz: nn.Module) -> Schedule:
        """Phases for one system and wavefunction; only orbitals of its own are pretrained."""
        states = sets_of(ansatz)
        changes: dict[str, Any] = {key: steps * system.n_electrons for key, steps in self.by_electron.items()}
        if "optimisation_steps" in changes:
            changes["optimisation_steps"] = min(states * changes["optimisation_steps"], self.largest_optimisation)
        if self.clip is None and system.cores:
            changes["clip"] = CLIP_WITH_CORES
        if not takes_pretraining(ansatz):
            changes["pretraining_steps"] = 0
        chunk = self.chunk or max(1, default_chunk(system) // states)
        return replace(self.settings, chunk=chunk, **changes)


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise InputError(f"method.optimisation.transfer must be a share above 0 and up to 1, not {value!r}")
    return float(value)


def _check_ranges(schedule: Schedule, chunk: int | None) -> None:
    at_least = {
        "method.walkers": (schedule.walkers, 2),
        "method.chunk": (1 if chunk is None else chunk, 1),
        "method.pretraining.steps": (schedule.pretraining_steps, 0),
        "method.sampling.burn_in": (schedule.burn_in, 0),
        "method.sampling.moves": (schedule.moves, 1),
        "method.optimisation.steps": (schedule.optimisation_steps, 0),
        "method.evaluation.steps": (schedule.evaluation_steps, 2),
        "method.evaluation.moves": (schedule.evaluation_moves, 1),
    }
    for key, (value, least) in at_least.items():
        check_whole(key, value, least)
    check_number("method.optimisation.clip", schedule.clip, positive=True)
    check_number("method.pretraining.learning_rate", schedule.pretraining_rate, positive=True)
