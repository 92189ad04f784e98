"""Result of a finished Monte Carlo run: error bars and the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fusion.chemistry.system import System
from fusion.errors import CalculationError
from fusion.parallel.collectives import rank
from fusion.runs.results import Result
from fusion.wavefunctions.estimators import Estimates
from fusion.wavefunctions.hartree_fock import HartreeFock, hartree_fock_limit
from fusion.wavefunctions.statistics import Estimate, blocked, drift
from fusion.wavefunctions.vmc import VariationalMonteCarlo

AGREEMENT = 3.0
"""Largest difference, in standard errors, of energies that should be equal."""

LOST = 1e-3
"""Largest acceptable share of local energies in the evaluation that are not finite."""

ROUNDING = 1e-6
"""Differences (hartree) below this count as zero: an exact wavefunction has no error bar to compare with."""


def outcome(module: VariationalMonteCarlo) -> Result:
    """Result of a module whose phases are done, identical on all ranks.

    The energy is that of the evaluation, with a blocked error. Its status is ``ok`` only if the evaluation
    agrees with the last quarter of the optimisation, and its two halves agree, within 3 standard errors.
    """
    series = np.array(module.energies["evaluating"])
    energy = blocked(series)
    tail = _last_quarter(module)
    change = drift(series)
    reasons = []
    if tail is not None and energy.sigmas_from(tail) > AGREEMENT and abs(energy.value - tail.value) > ROUNDING:
        reasons.append(
            f"the evaluation differs from the last quarter of optimisation by {energy.sigmas_from(tail):.1f} σ "
            f"({1e3 * (energy.value - tail.value):+.2f} mHa): more method.optimisation.steps"
        )
    if abs(change.value) > max(AGREEMENT * change.stderr, ROUNDING):
        reasons.append(
            f"the energy drifts during the evaluation by {abs(change.value) / change.stderr:.1f} σ: "
            "more method.sampling.burn_in or method.evaluation.steps"
        )
    measured = module.done["evaluating"] * module.schedule.walkers
    if module.lost > LOST * measured:
        reasons.append(f"{module.lost} of {measured} local energies were not finite: try dtype=float64")
    if not np.isfinite(energy.value):
        raise CalculationError("the evaluation has energies that are not finite; try dtype=float64")
    # The first rank reports; the others would repeat its Hartree-Fock calculation.
    details = _details(module, energy, tail, change) if rank() == 0 else {}
    properties: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    for estimates in _estimates(module):
        properties |= estimates.properties
        details |= estimates.details
        files |= estimates.files
    agreement = (
        "" if tail is None else f"agrees with the last quarter of optimisation ({energy.sigmas_from(tail):.1f} σ), "
    )
    verdict = "; ".join(reasons) or f"the evaluation {agreement}drift below the error bar"
    details["verdict"] = verdict
    return Result(
        module.system,
        "not_converged" if reasons else "ok",
        energy=energy.value,
        energy_stderr=energy.stderr,
        properties=properties,
        details={"vmc": details},
        message=verdict if reasons else None,
        files=files,
    )


def _last_quarter(module: VariationalMonteCarlo) -> Estimate | None:
    series = np.array(module.energies["optimising"])
    return blocked(series[-(len(series) // 4) :]) if len(series) >= 8 else None


def _details(
    module: VariationalMonteCarlo, energy: Estimate, tail: Estimate | None, change: Estimate
) -> dict[str, Any]:
    field = _hartree_fock(module.system)
    details: dict[str, Any] = {
        "variance_hartree2": float(np.mean(module.series["variance"])),
        "acceptance": float(np.mean(module.series["acceptance"])),
        "parameters": sum(p.numel() for p in module.ansatz.parameters()),
        "optimisation": {
            "iterations": module.done["optimising"],
            "rejected_steps": module.optimisation.rejected,
        },
        "evaluation": {
            "iterations": module.done["evaluating"],
            "walkers": module.schedule.walkers,
            "drift_hartree": change.value,
            "drift_stderr_hartree": _finite(change.stderr),
            "non_finite_local_energies": module.lost,
        },
    }
    if tail is not None:
        details["optimisation"]["last_quarter"] = {"energy_hartree": tail.value, "stderr_hartree": tail.stderr}
    if isinstance(field, str):
        return {**details, "hartree_fock_error": field}
    details["hartree_fock"] = {"energy_hartree": field.energy, "basis": field.basis, "method": field.method}
    correlation = correlation_percent(module.system, energy, details)
    return details if correlation is None else {**details, "correlation_percent": correlation}


def _estimates(module: VariationalMonteCarlo) -> Iterator[Estimates]:
    """Values of the estimators that have measured; one that was added to a finished evaluation has not."""
    for estimator in module.estimators:
        series = {name: np.array(module.series.get(name, [])) for name in estimator.measures}
        if all(len(values) for values in series.values()):
            yield estimator.finish(series)


def _hartree_fock(system: System) -> HartreeFock | str:
    """Mean field to compare with, or the reason why there is none; an error must not lose a finished run."""
    try:
        return hartree_fock_limit(system)
    except CalculationError as error:
        return str(error)


def _finite(error: float) -> float | None:
    """Error bar; None instead of nan, which JSON lacks, if the series was too short for one."""
    return error if np.isfinite(error) else None


def correlation_percent(system: System, energy: Estimate, vmc: dict[str, Any]) -> dict[str, float] | None:
    """Share of the correlation energy (reference minus Hartree-Fock), if there is any, from the details of a result."""
    reference, field = system.reference, vmc.get("hartree_fock")
    if reference is None or field is None or system.n_electrons < 2:
        return None
    total = reference.value - field["energy_hartree"]
    if total > -1e-4:
        return None
    return {"value": 100 * (energy.value - field["energy_hartree"]) / total, "stderr": 100 * energy.stderr / abs(total)}
