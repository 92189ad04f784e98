"""Result of diffusion Monte Carlo: energies of all time steps, their extrapolation, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fusion.runs.results import Result
from fusion.wavefunctions.diffusion.module import DiffusionMonteCarlo
from fusion.wavefunctions.diffusion.population import population_bias
from fusion.wavefunctions.outcome import AGREEMENT, ROUNDING, correlation_percent, outcome
from fusion.wavefunctions.statistics import Estimate, blocked, drift

HISTORY = 1.0
"""Projection time (1/hartree) over which weights are multiplied to estimate the bias of the fixed population."""


class Projected(NamedTuple):
    """Energy (hartree) of one time step (1/hartree), the bias of the fixed population, and the drift."""

    time_step: float
    energy: Estimate
    population_bias: Estimate
    drift: Estimate


def projected(module: DiffusionMonteCarlo) -> list[Projected]:
    """Energies of all time steps that have run, without their equilibration."""
    energies = []
    for phase, tau in module.time_steps.items():
        first = module.diffusion.equilibration
        series = np.array(module.projected[phase])[first:]
        bias = population_bias(series, np.array(module.log_weights[phase])[first:], round(HISTORY / tau))
        energies.append(Projected(tau, blocked(series), bias, drift(series)))
    return energies


def extrapolated(energies: Sequence[Projected]) -> Estimate | None:
    """Energy at time step zero by a weighted linear fit; None with fewer than two time steps or without errors."""
    if len(energies) < 2 or not all(e.energy.stderr > 0 for e in energies):
        return None
    tau = np.array([e.time_step for e in energies])
    weight = np.array([e.energy.stderr**-2 for e in energies])
    design = np.stack((np.ones_like(tau), tau), axis=1)
    covariance = np.linalg.inv(design.T @ (weight[:, None] * design))
    values = np.array([e.energy.value for e in energies])
    return Estimate(float((covariance @ design.T @ (weight * values))[0]), float(covariance[0, 0] ** 0.5))


def diffused(module: DiffusionMonteCarlo) -> Result:
    """Result of a module whose phases are done, identical on all ranks.

    The energy is that of the smallest time step; the extrapolation to time step zero stands beside it. The status is
    ``ok`` only if the halves of every time step agree within 3 standard errors, and the bias of the fixed population
    is below the error bar or 3 errors of its own. Dipole and forces of the variational part are left out: those of
    mixed distributions differ from both wavefunctions.
    """
    variational = outcome(module)
    energies = projected(module)
    best = min(energies, key=lambda projection: projection.time_step)
    reasons = [
        f"at time step {e.time_step:g} the energy drifts by {abs(e.drift.value) / e.drift.stderr:.1f} σ: "
        "more task.equilibration or task.steps"
        for e in energies
        if abs(e.drift.value) > max(AGREEMENT * e.drift.stderr, ROUNDING)
    ]
    reasons += [
        f"at time step {e.time_step:g} the fixed population changes the energy by "
        f"{1e3 * e.population_bias.value:+.2f} mHa: more method.walkers"
        for e in energies
        if abs(e.population_bias.value) > max(AGREEMENT * e.population_bias.stderr, e.energy.stderr)
    ]
    verdict = "; ".join(reasons) or "both halves of every time step agree"
    limit = extrapolated(energies)
    details: dict[str, Any] = {
        "variational": {
            "energy_hartree": variational.energy,
            "stderr_hartree": variational.energy_stderr,
            "verdict": variational.details["vmc"]["verdict"],
        },
        "walkers": module.schedule.walkers,
        "steps": module.diffusion.steps,
        "equilibration": module.diffusion.equilibration,
        "time_steps": [
            {
                "time_step_per_hartree": e.time_step,
                "energy_hartree": e.energy.value,
                "stderr_hartree": e.energy.stderr,
                "population_bias_hartree": e.population_bias.value,
                "population_bias_stderr_hartree": e.population_bias.stderr,
            }
            for e in energies
        ],
        "verdict": verdict,
    }
    if limit is not None:
        details["extrapolated"] = {"energy_hartree": limit.value, "stderr_hartree": limit.stderr}
    details["correlation_percent"] = correlation_percent(module.system, best.energy, variational.details["vmc"])
    shown = {**variational.details["vmc"], "correlation_percent": details["correlation_percent"], "verdict": verdict}
    return Result(
        module.system,
        "not_converged" if reasons else "ok",
        energy=best.energy.value,
        energy_stderr=best.energy.stderr,
        details={"vmc": shown, "dmc": details},
        message=verdict if reasons else None,
        files=variational.files,
    )
