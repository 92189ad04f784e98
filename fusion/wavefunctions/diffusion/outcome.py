"""Result of diffusion Monte Carlo: energies of all time steps, their extrapolation, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fusion.runs.results import Result
from fusion.wavefunctions.diffusion import RELAXATION, phase_of
from fusion.wavefunctions.diffusion.module import DiffusionMonteCarlo
from fusion.wavefunctions.diffusion.population import population_bias
from fusion.wavefunctions.outcome import AGREEMENT, ROUNDING, correlation_percent, outcome
from fusion.wavefunctions.statistics import Estimate, blocked, drift

MOVING = 0.8
"""Smallest share of the proposed diffusion that may be accepted: below, walkers hardly move at that time step."""


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
        bias = population_bias(series, np.array(module.log_weights[phase])[first:], max(1, round(RELAXATION / tau)))
        energies.append(Projected(tau, blocked(series), bias, drift(series)))
    return energies


def extrapolated(energies: Sequence[Projected]) -> Estimate | None:
    """Energy at time step zero by a weighted linear fit; None with fewer than two time steps or without errors."""
    line = _line(energies)
    return None if line is None else line[0]


def time_step_bias(energies: Sequence[Projected]) -> Estimate | None:
    """Energy of the smallest time step minus the extrapolated one, by the slope of that fit; None without one."""
    line = _line(energies)
    if line is None:
        return None
    smallest = min(e.time_step for e in energies)
    return Estimate(line[1].value * smallest, line[1].stderr * smallest)


def _line(energies: Sequence[Projected]) -> tuple[Estimate, Estimate] | None:
    """Energy at time step zero and slope of a weighted linear fit."""
    if len(energies) < 2 or not all(e.energy.stderr > 0 for e in energies):
        return None
    tau = np.array([e.time_step for e in energies])
    weight = np.array([e.energy.stderr**-2 for e in energies])
    design = np.stack((np.ones_like(tau), tau), axis=1)
    covariance = np.linalg.inv(design.T @ (weight[:, None] * design))
    values = covariance @ design.T @ (weight * np.array([e.energy.value for e in energies]))
    energy, slope = (Estimate(float(v), float(c**0.5)) for v, c in zip(values, covariance.diagonal(), strict=True))
    return energy, slope


def diffused(module: DiffusionMonteCarlo) -> Result:
    """Result of a module whose phases are done, identical on all ranks.

    The energy is that of the smallest time step; the extrapolation to time step zero stands beside it. The status is
    ``ok`` only without `reasons`. Dipole and forces of the variational part are left out: those of mixed distributions
    differ from both wavefunctions.
    """
    variational = outcome(module)
    vmc = dict(variational.details["vmc"])
    left = vmc.pop("remaining", None)  # that of the variational energy
    energies = projected(module)
    best = min(energies, key=lambda projection: projection.time_step)
    against = list(reasons(module, energies))
    verdict = "; ".join(against) or "both halves of every time step agree"
    limit = extrapolated(energies)
    details: dict[str, Any] = {
        "variational": {
            "energy_hartree": variational.energy,
            "stderr_hartree": variational.energy_stderr,
            "verdict": vmc["verdict"],
            **({"remaining": left} if left is not None else {}),
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
    details["correlation_percent"] = correlation_percent(module.system, best.energy, vmc)
    shown = {**vmc, "correlation_percent": details["correlation_percent"], "verdict": verdict}
    return Result(
        module.system,
        "not_converged" if against else "ok",
        energy=best.energy.value,
        energy_stderr=best.energy.stderr,
        details={"vmc": shown, "dmc": details},
        message=verdict if against else None,
        files=variational.files,
    )


def reasons(module: DiffusionMonteCarlo, energies: Sequence[Projected]) -> Iterator[str]:
    """Yield the reasons against the convergence of a diffusion.

    The halves of every time step disagree by more than 3 standard errors, or are too short to tell; the walkers still
    had the density of psi when the measurement began, or hardly move; the bias of the fixed population or of the time
    step is above the error bar and 3 errors of its own.
    """
    steps, equilibration, projection = module.diffusion.steps, module.diffusion.equilibration, 0.0
    for e in energies:
        at = f"at time step {e.time_step:g}"
        before, measured = projection + equilibration * e.time_step, (steps - equilibration) * e.time_step
        projection += steps * e.time_step
        if before < RELAXATION * (1 - 1e-9):
            yield (
                f"{at} the measurement begins after {before:.2g} /Ha of projection, less than {RELAXATION:g}: "
                "more task.equilibration"
            )
        if measured < 2 * RELAXATION * (1 - 1e-9):
            yield (
                f"{at} the measurement takes {measured:.2g} /Ha of projection, less than {2 * RELAXATION:g}: "
                "more task.steps"
            )
        moving = module.effective.get(phase_of(e.time_step), 1.0)
        if moving < MOVING:
            yield f"{at} only {moving:.0%} of the diffusion is accepted: smaller task.time_steps"
        if abs(e.drift.value) > max(AGREEMENT * e.drift.stderr, ROUNDING):
            yield (
                f"{at} the energy drifts by {abs(e.drift.value) / e.drift.stderr:.1f} σ: "
                "more task.equilibration or task.steps"
            )
        if abs(e.population_bias.value) > max(AGREEMENT * e.population_bias.stderr, e.energy.stderr):
            yield (
                f"{at} the fixed population changes the energy by {1e3 * e.population_bias.value:+.2f} mHa: "
                "more method.walkers"
            )
    bias, best = time_step_bias(energies), min(energies, key=lambda projection: projection.time_step)
    if bias is not None and abs(bias.value) > max(AGREEMENT * bias.stderr, best.energy.stderr):
        yield (
            f"the time step {best.time_step:g} changes the energy by {1e3 * bias.value:+.2f} mHa, by extrapolation: "
            "smaller task.time_steps"
        )
