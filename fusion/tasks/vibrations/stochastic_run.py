"""Vibrations with forces that have error bars: relaxation, differences, and the result with its errors and verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.chemistry import units
from fusion.console.format import count, plus_minus
from fusion.runs.results import Result
from fusion.tasks.geometry.normal_modes import NormalModes, normal_modes
from fusion.tasks.relax import stochastic_report
from fusion.tasks.relax.points import visited
from fusion.tasks.relax.stochastic import Descent
from fusion.tasks.relax.task import descended
from fusion.tasks.vibrations.analysis import Conditions, describe
from fusion.tasks.vibrations.stochastic import Differences, Errors, differences, number
from fusion.tasks.vibrations.thermochemistry import by_wavenumber

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.recorded import Journal
    from fusion.runs.run import Run
    from fusion.tasks.relax.relaxation import Settings


@dataclass(frozen=True)
class Found:
    """Differences of the forces at a stationary point, the normal modes, and the relaxation if there was one."""

    differences: Differences
    modes: NormalModes
    descent: Descent | None

    @property
    def errors(self) -> Errors:
        """Errors of the frequencies; a relaxation tells best how far its end is off the minimum."""
        mean = None if self.descent is None else self.descent.mean
        offset = self.differences.offset if mean is None else np.outer(mean.offset, mean.offset) + mean.covariance
        return Errors(self.differences, self.modes, offset)


def calculate(journal: Journal, start: System, settings: Settings, relax: bool, run: Run) -> Found | Result:
    """Relax on request, then displace. A relaxation without a stationary point is the whole result."""
    from fusion.console.phases import phase

    descent = None
    if relax:
        descent = descended(journal, start, settings, run)
        reference = descent.points[-1]
        if descent.failure is not None or descent.mean is None or reference.above(settings.fmax).any():
            relaxed = stochastic_report.outcome(descent, settings)
            return replace(relaxed, message=f"{relaxed.message}; no vibrations were calculated")
    else:
        reference = visited(journal, start)
    system = reference.result.system
    with phase("Hessian", number(system)) as bar:
        found = differences(journal, reference, lambda done: bar(done, "by differences of forces"))
    modes = normal_modes(found.hessian, system.positions, system.nuclear_masses, any(system.pbc), system.fixed)
    return Found(found, modes, descent)


def result_of(found: Found, settings: Settings, conditions: Conditions) -> Result:
    """Result at the stationary point: frequencies, zero-point energy and thermochemistry with errors, and a verdict.

    An imaginary mode within twice its error counts as noise.
    """
    reference, errors = found.differences.reference, found.errors
    doubtful = (found.modes.frequencies < 0) & (-found.modes.frequencies < errors.within)
    noise = max([conditions.noise_cm1, *np.ceil(-found.modes.frequencies[doubtful])])
    result = replace(
        reference.result,
        properties=dict(reference.result.properties),
        warnings=list(reference.result.warnings),
    )
    details = describe(result, found.modes, replace(conditions, noise_cm1=float(noise)))
    _add_errors(details, errors, result, conditions.temperature_k)
    details["vibrations"] |= {
        "displaced_geometries": len(found.differences.points),
        "largest_force_hartree_per_bohr": reference.largest,
        "largest_force_stderr_hartree_per_bohr": reference.largest_stderr,
    }
    if found.descent is not None:
        details["relaxation"] = stochastic_report.outcome(found.descent, settings).details["relaxation"]
        details["relaxation"].pop("verdict", None)
    unknown = int((np.abs(found.modes.frequencies) < errors.within).sum() - doubtful.sum())
    if unknown:
        result.warnings.append(
            f"{count(unknown, 'real mode')} within twice the error of its curvature: may be imaginary"
        )
    result.status, result.message = _judged(found.differences, settings.fmax)
    force = plus_minus(reference.largest, reference.largest_stderr)
    found_well = f"{details['vibrations']['nature']}; largest force {force} Ha/bohr"
    # The verdict of the vibrations comes before that of the calculation at the stationary point.
    details["vibrations"]["verdict"] = result.message or found_well
    return replace(result, details=details | result.details)


def _add_errors(details: dict[str, Any], errors: Errors, result: Result, temperature_k: float) -> None:
    """Add the standard errors of frequencies, zero-point energy, enthalpy and Gibbs energy to the details."""
    frequencies = errors.modes.frequencies
    real = frequencies > 0
    details["frequencies_stderr_cm1"] = errors.frequencies.tolist()
    details["zero_point_energy_stderr_hartree"] = errors.stderr(0.5 * real / units.CM1_PER_HARTREE)
    thermochemistry = details.get("thermochemistry")
    if thermochemistry is None:
        return
    for name, slopes in zip(("enthalpy", "gibbs"), by_wavenumber(frequencies[real], temperature_k), strict=True):
        weights = np.zeros(len(frequencies))
        weights[real] = slopes
        thermochemistry[f"{name}_stderr_hartree"] = float(np.hypot(errors.stderr(weights), result.energy_stderr or 0.0))


def _judged(found: Differences, fmax: float) -> tuple[str, str | None]:
    """Status and message: the forces at the reference must be within their noise, and all calculations converged."""
    reference = found.reference
    if reference.above(fmax).any():
        force = plus_minus(reference.largest, reference.largest_stderr)
        return "not_converged", (
            f"not a stationary point: largest force {force} Ha/bohr, above its noise; task.relax=true relaxes first"
        )
    unconverged = [point for point in (reference, *found.points) if point.result.status != "ok"]
    if unconverged:
        of = count(len(found.points) + 1, "calculation")
        return "not_converged", f"{len(unconverged)} of {of} did not converge: {unconverged[0].result.message}"
    return "ok", None
