"""Result of a finished Monte Carlo run: error bars and the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import numpy as np
import torch

from fusion.chemistry.system import System
from fusion.console.format import count
from fusion.errors import CalculationError
from fusion.parallel.collectives import rank, sum_over_ranks
from fusion.runs.results import Result
from fusion.wavefunctions.ansatz import start_of
from fusion.wavefunctions.estimators import Estimates
from fusion.wavefunctions.hamiltonians import EffectiveCore, Kinetic, Term
from fusion.wavefunctions.hamiltonians.terms import Coulomb
from fusion.wavefunctions.hartree_fock import HartreeFock, hartree_fock_limit
from fusion.wavefunctions.remaining import SHORTEST, Remaining, remaining
from fusion.wavefunctions.statistics import Estimate, blocked, drift
from fusion.wavefunctions.vmc import VariationalMonteCarlo

AGREEMENT = 3.0
"""Largest difference, in standard errors, of energies that should be equal."""

LOST = 1e-3
"""Largest acceptable share of local energies in the evaluation that are not finite."""

TOLERANCE = 1e-2
"""Largest remaining error (hartree), with twice its error bar, of a converged energy without
``method.optimisation.until``."""

ACCEPTANCE = (0.2, 0.8)
"""Acceptances outside of which walkers hardly move."""

ROUNDING = 1e-6
"""Differences (hartree) below this count as zero: an exact wavefunction has no error bar to compare with."""

_MOLECULAR = {Kinetic.name, Coulomb.name, EffectiveCore.name}
"""Names of the terms of a Hamiltonian whose Hartree-Fock energy is known."""


def outcome(module: VariationalMonteCarlo) -> Result:
    """Result of a module whose phases are done, identical on all ranks.

    The energy is that of the evaluation, with a blocked error. Its status is ``ok`` only if the evaluation is not above
    the last quarter of the optimisation and its two halves agree, within 3 standard errors, and if the remaining error
    of the optimisation, which the verdict states, is below ``method.optimisation.until`` or, without it, TOLERANCE. An
    energy above Hartree-Fock by more than that, and by 3 standard errors, is not ``ok`` either: it is the only limit
    for an evaluation without an optimisation of its own.
    """
    series = np.array(module.energies["evaluating"])
    energy = blocked(series)
    tail = last_quarter(module)
    change = drift(series)
    reasons = []
    left = remaining_error(module, energy)
    if tail is not None and energy.value > tail.value + max(AGREEMENT * _both(energy, tail), ROUNDING):
        reasons.append(
            f"the evaluation is above the last quarter of optimisation by {energy.sigmas_from(tail):.1f} σ "
            f"({1e3 * (energy.value - tail.value):+.2f} mHa): more method.optimisation.steps"
        )
    until = module.schedule.until or TOLERANCE
    if left is not None and max(left.error, energy.stderr) > until:
        reasons.append(
            f"the remaining error may be {1e3 * left.error:.1f} mHa, more than {1e3 * until:g}: "
            "more method.optimisation.steps or method.walkers"
        )
    wanted = module.schedule.evaluation_stderr
    if wanted is not None and not energy.stderr <= wanted:
        reasons.append(f"the error bar is above {1e3 * wanted:g} mHa: more method.evaluation.steps")
    reasons += unsteady(module, "the energy", change)
    if not np.isfinite(energy.value):
        raise CalculationError("the evaluation has energies that are not finite; try dtype=float64")
    # The first rank reports; the others would repeat its Hartree-Fock calculation.
    details = _details(module, energy, tail, change) if rank() == 0 else {}
    above = energy.value - _mean_field(module, details)
    if above > until + AGREEMENT * energy.stderr:
        reasons.append(
            f"the energy is {1e3 * above:.1f} mHa above Hartree–Fock, and further above the exact one: "
            "more method.optimisation.steps"
        )
    properties: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    for estimates in _estimates(module):
        properties |= estimates.properties
        details |= estimates.details
        files |= estimates.files
    within = "" if left is None else f"remaining error at most about {1e3 * max(left.error, energy.stderr):.1f} mHa, "
    verdict = "; ".join(reasons) or f"{within}drift of the evaluation below the error bar"
    details["verdict"] = verdict
    if left is not None:
        details["remaining"] = as_details(left)
    acceptance = float(np.mean(module.series["acceptance"]))
    low, high = ACCEPTANCE
    warnings = [] if low < acceptance < high else [f"{acceptance:.0%} of the moves were accepted: walkers hardly move"]
    return Result(
        module.system,
        "not_converged" if reasons else "ok",
        energy=energy.value,
        energy_stderr=energy.stderr,
        properties=properties,
        details={"vmc": details},
        message=verdict if reasons else None,
        warnings=warnings,
        files=files,
    )


def remaining_error(module: VariationalMonteCarlo, energy: Estimate) -> Remaining | None:
    """Remaining error after the optimisation; None if it was too short or had its energies in an earlier version."""
    energies, variances = module.energies["optimising"], module.variances
    if len(energies) < SHORTEST:
        return None
    return remaining(energies, variances, energy, float(np.median(module.series["variance"])))


def unsteady(module: VariationalMonteCarlo, name: str, change: Estimate) -> list[str]:
    """Reasons against a run: no optimisation, here or before, or one too short for an estimate of its remaining error;
    an evaluation in which `name` drifts by `change`, or in which too many local energies are lost."""
    reasons, steps = [], len(module.energies["optimising"])
    exact = float(np.median(module.series["variance"])) < ROUNDING**2
    if steps == 0 and not module.started and not exact:
        reasons.append("the wavefunction has not been optimised: more method.optimisation.steps")
    if 0 < steps < SHORTEST and not exact:
        reasons.append(
            f"{count(steps, 'step')} of optimisation {'is' if steps == 1 else 'are'} too few for an estimate of the "
            f"remaining error: method.optimisation.steps={SHORTEST} or more"
        )
    if abs(change.value) > max(AGREEMENT * change.stderr, ROUNDING):
        reasons.append(
            f"{name} drifts during the evaluation by {abs(change.value) / change.stderr:.1f} σ: "
            "more method.sampling.burn_in or method.evaluation.steps"
        )
    measured = module.done["evaluating"] * module.schedule.walkers
    if module.lost > LOST * measured:
        reasons.append(f"{module.lost} of {measured} local energies were not finite: try dtype=float64")
    return reasons


def as_details(left: Remaining) -> dict[str, Any]:
    """Describe the remaining error for a result."""
    estimates = {"by_steps": left.by_steps, "by_variance": left.by_variance, "extrapolated": left.extrapolated}
    return {
        "error_hartree": left.error,
        **{
            name: {"hartree": estimate.value, "stderr_hartree": estimate.stderr}
            for name, estimate in estimates.items()
            if estimate is not None
        },
    }


def _both(first: Estimate, second: Estimate) -> float:
    return float(np.hypot(first.stderr, second.stderr))


def last_quarter(module: VariationalMonteCarlo) -> Estimate | None:
    """Energy of the last quarter of the optimisation; None if it was too short for one."""
    series = np.array(module.energies["optimising"])
    return blocked(series[-(len(series) // 4) :]) if len(series) >= 8 else None


def _details(
    module: VariationalMonteCarlo, energy: Estimate, tail: Estimate | None, change: Estimate
) -> dict[str, Any]:
    field = _hartree_fock(module.system)
    details: dict[str, Any] = {
        "variance_hartree2": float(np.mean(module.series["variance"])),
        "acceptance": float(np.mean(module.series["acceptance"])),
        "orbitals_start_at": start_of(module.ansatz),
        "parameters": sum(p.numel() for p in module.ansatz.parameters()),
        "optimisation": {
            "iterations": module.done["optimising"],
            "rejected_steps": module.optimisation.rejected,
        },
        "evaluation": {
            "iterations": module.done["evaluating"],
            "walkers": module.schedule.walkers,
            **_independence(module, energy),
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


def _mean_field(module: VariationalMonteCarlo, details: dict[str, Any]) -> float:
    """Hartree-Fock energy from the details of the first rank, on all ranks; infinite where it is not known, or for
    another Hamiltonian than that of Hartree-Fock."""
    if not {term.name for term in cast(Iterable[Term], module.hamiltonian.terms)} <= _MOLECULAR:
        return np.inf
    known = details.get("hartree_fock", {}).get("energy_hartree", np.inf) if rank() == 0 else 0.0
    return float(sum_over_ranks(torch.tensor(known, dtype=torch.float64, device=module.sampler.electrons.device)))


def _independence(module: VariationalMonteCarlo, energy: Estimate) -> dict[str, float]:
    """Number of independent local energies with the same error, and iterations between two of the same walker; nothing
    for a wavefunction without variance."""
    variance = float(np.mean(module.series["variance"]))
    if not (energy.stderr > 0 and variance > 0):
        return {}
    effective = variance / energy.stderr**2
    measured = module.done["evaluating"] * module.schedule.walkers
    return {"effective_samples": effective, "autocorrelation_iterations": measured / effective}


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
