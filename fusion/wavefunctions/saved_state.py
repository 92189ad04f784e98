"""State of a Monte Carlo run in its checkpoints: what is saved of a module, and how a module resumes with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from fusion.parallel.collectives import gather_rows, own_rows, world_size
from fusion.wavefunctions.checkpoint import identity, series_of
from fusion.wavefunctions.estimators import Estimator
from fusion.wavefunctions.remaining import is_within
from fusion.wavefunctions.transfer import Start

if TYPE_CHECKING:
    from fusion.wavefunctions.vmc import VariationalMonteCarlo


def saved(module: VariationalMonteCarlo) -> dict[str, Any]:
    """Return all that resuming needs beside the parameters; walkers and streams are those of all ranks."""
    generator = module.sampler.generator.get_state().to(module.device)
    return {
        "identity": identity(module.system, module.ansatz, module.settings),
        "done": dict(module.done),
        "energies": {key: list(values) for key, values in module.energies.items()},
        "variances": list(module.variances),
        "within": module.within,
        "started": module.started,
        "series": {key: list(values) for key, values in module.series.items()},
        "estimators": {e.name: cast(nn.Module, e).state_dict() for e in module.estimators},
        "lost": module.lost,
        "electrons": gather_rows(module.sampler.electrons).cpu(),
        "generators": gather_rows(generator.unsqueeze(0)).cpu(),
        "sampler": module.sampler.state_dict(),
        "optimiser": module.optimiser.state_dict(),
        "optimisation": _with_all_walkers(module.optimisation.state_dict()),
        "pretraining": None if module.fitting is None else module.fitting.state_dict(),
    }


def restore_counts(module: VariationalMonteCarlo, state: dict[str, Any]) -> None:
    """Set the numbers of iterations done, with their energies and series.

    An evaluation is not continued if the wavefunction is optimised further, or belongs to another run, unless the
    module ``keeps_evaluation`` of other runs.
    """
    module.done = {phase: state["done"].get(phase, 0) for phase in module.phases}
    module.energies = {key: list(values) for key, values in state["energies"].items()}
    module.variances, module.within = list(state.get("variances", [])), _was_within(state, module.schedule.until)
    module.started = bool(state.get("started"))
    module.series, module.lost = {key: list(values) for key, values in series_of(state).items()}, state["lost"]
    kept = module.keeps_evaluation and is_evaluated(state, module.schedule.walkers, module.estimators)
    if module.left("optimising") or (module.from_another_run and not kept):
        module.done["evaluating"] = 0
        module.energies["evaluating"], module.series, module.lost = [], {}, 0


def is_evaluated(state: Mapping[str, Any], walkers: int, estimators: Sequence[Estimator]) -> bool:
    """True if the state has an evaluation with so many walkers and these estimators, begun or finished."""
    same = set(state.get("estimators", {})) == {estimator.name for estimator in estimators}
    return bool(state["done"].get("evaluating")) and same and len(state["electrons"]) == walkers


def restore(module: VariationalMonteCarlo, state: dict[str, Any], walkers: int) -> None:
    """Set sampler, optimiser, estimators and pretraining of a module with ``walkers`` on this rank."""
    like, sums = next(module.ansatz.parameters()), state.get("estimators", {})
    state = _converted(state, state["electrons"].dtype, like)
    everyone, anchor = state["electrons"], state["optimisation"]["anchor"]
    if len(everyone) != walkers * world_size():  # the number of walkers has changed: repeat or drop some
        everyone = everyone[torch.arange(walkers * world_size()) % len(everyone)]
        anchor = {}  # the spread of its energy has changed
    module.sampler.electrons = own_rows(everyone).clone()
    module.sampler.load_state_dict(state["sampler"])
    if len(state["generators"]) == world_size() and not module.from_another_run:
        # set_state of a view crashes torch: the state needs its own memory, on the CPU.
        module.sampler.generator.set_state(own_rows(state["generators"])[0].cpu().clone())
    module.optimiser.load_state_dict(state["optimiser"])
    if anchor:
        anchor = {**anchor, "electrons": own_rows(anchor["electrons"]).clone()}
    module.optimisation.load_state_dict({**state["optimisation"], "anchor": anchor})
    for estimator in module.estimators:
        if module.done["evaluating"] and sums.get(estimator.name):
            cast(nn.Module, estimator).load_state_dict(sums[estimator.name])
    if state["pretraining"] is not None and module.left("pretraining"):
        module.pretraining.load_state_dict(state["pretraining"])


def wavefunction_of(checkpoint: dict[str, Any], ansatz: nn.Module) -> Start:
    """Return parameters and walkers of a checkpoint, to start at them with another geometry."""
    state = checkpoint["vmc"]
    average = state["optimisation"].get("average") or {}
    parameters = {
        name: average.get(name, checkpoint["state_dict"][f"ansatz.{name}"]) for name, _ in ansatz.named_parameters()
    }
    return Start(parameters, state["electrons"], np.array(state["identity"]["positions"]))


def _was_within(state: dict[str, Any], until: float | None) -> bool:
    """True if the stored optimisation ended for this run's limit of the remaining error."""
    return (
        bool(state.get("within"))
        and until is not None
        and is_within(state["energies"]["optimising"], state["variances"], until)
    )


def _with_all_walkers(state: dict[str, Any]) -> dict[str, Any]:
    """Replace the walkers of the optimisation's anchor by those of all ranks."""
    if not state["anchor"]:
        return state
    anchor = {**state["anchor"], "electrons": gather_rows(state["anchor"]["electrons"]).cpu()}
    return {**state, "anchor": anchor}


def _converted(state: Any, source: torch.dtype, like: Tensor) -> Any:
    """Move all tensors in containers to the device of ``like``, and those of dtype ``source`` to its dtype."""
    if isinstance(state, Tensor):
        return state.to(like.device, like.dtype if state.dtype == source else state.dtype)
    if isinstance(state, dict):
        return {key: _converted(value, source, like) for key, value in state.items()}
    if isinstance(state, list):
        return [_converted(value, source, like) for value in state]
    return state
