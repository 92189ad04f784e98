"""Result of a finished run of several states: energies, gaps, spins, dipoles and oscillator strengths."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
import torch

from fusion.chemistry.units import EV_PER_HARTREE
from fusion.errors import CalculationError
from fusion.runs.results import Result
from fusion.wavefunctions.ansatz import HasConfigurations, start_of
from fusion.wavefunctions.excited.module import DIPOLE, MATRIX, SPIN, ExcitedStates
from fusion.wavefunctions.excited.penalty import OVERLAP, Overlap, largest_overlap
from fusion.wavefunctions.excited.spectrum import DISTINCT, Spectrum, oscillator_strength, spectrum
from fusion.wavefunctions.outcome import (
    AGREEMENT,
    ROUNDING,
    TOLERANCE,
    as_details,
    last_quarter,
    remaining_error,
    unsteady,
)
from fusion.wavefunctions.statistics import Estimate, blocked, drift

SEPARATE = "separate states may be mixtures of eigenstates, whose energies are no bounds: compare method.penalty=null"
"""Reason against the convergence of every run with a penalty: helium's gaps agreed with those of the determinant in one
of several variants only (docs/excited_states.md)."""

OVERLAPPING = 0.1
"""Overlap of two separate states above which their energies are those of mixtures, wrong by about its square times the
gap."""

MIXED = 5.0
"""A gap below so many of its standard errors may have a bias of the order of the error squared over the gap."""


MIXED_SPIN = 0.2
"""Deviation of <S^2> from that of every spin above which a level has none of its own."""


def excited(module: ExcitedStates) -> Result:
    """Result of a module whose phases are done, identical on all ranks; its energy is that of the lowest state.

    The verdict concerns the sum of all energies, which is what the optimisation minimises: ``ok`` if the evaluation is
    not above the last quarter of the optimisation and does not drift, within 3 standard errors, and if the remaining
    error per state is below ``method.optimisation.until`` or, without it, 10 mHa. Separate states are never ``ok``.
    """
    total = blocked(np.array(module.energies["evaluating"]))
    if not np.isfinite(total.value):
        raise CalculationError("the evaluation has energies that are not finite; try dtype=float64")
    matrices, dipoles = (np.array(module.series[name]) for name in (MATRIX, DIPOLE))
    found = spectrum(matrices)
    overlap = largest_overlap(module.series[OVERLAP]) if OVERLAP in module.series else None
    reasons, left = _reasons(module, total, overlap)
    verdict = "; ".join(reasons) or "the sum of the energies does not drift during the evaluation"
    energies = found.energies
    details: dict[str, Any] = {
        "states": _levels(module, found, dipoles),
        "transitions": [] if overlap is not None else list(_transitions(found, matrices, dipoles)),
        "sum_of_energies": {"hartree": total.value, "stderr_hartree": total.stderr},
        "verdict": verdict,
    }
    if overlap is not None:
        details["largest_overlap"] = overlap.size
    vmc: dict[str, Any] = {
        "variance_hartree2": float(np.mean(module.series["variance"])),
        "acceptance": float(np.mean(module.series["acceptance"])),
        "orbitals_start_at": start_of(module.ansatz),
        "parameters": sum(p.numel() for p in module.ansatz.parameters()),
        "optimisation": {"iterations": module.done["optimising"], "rejected_steps": module.optimisation.rejected},
        "evaluation": {
            "iterations": module.done["evaluating"],
            "walkers": module.schedule.walkers,
            "non_finite_local_energies": module.lost,
        },
        "verdict": verdict,
    }
    if left is not None:
        vmc["remaining"] = as_details(left)
    return Result(
        module.system,
        "not_converged" if reasons else "ok",
        energy=energies[0].value,
        energy_stderr=energies[0].stderr,
        details={"vmc": vmc, "excited": details},
        message=verdict if reasons else None,
        warnings=[*_warnings(found), *_of_spin(details["states"])],
    )


def _reasons(module: ExcitedStates, total: Estimate, overlap: Overlap | None) -> tuple[list[str], Any]:
    """Reasons against convergence, and the remaining error of the sum of the energies."""
    tail, change = last_quarter(module), drift(np.array(module.energies["evaluating"]))
    left = remaining_error(module, total)
    reasons = []
    if tail is not None:
        allowed = max(AGREEMENT * float(np.hypot(total.stderr, tail.stderr)), ROUNDING)
        if total.value > tail.value + allowed:
            reasons.append(
                f"the evaluation is above the last quarter of optimisation by {1e3 * (total.value - tail.value):+.2f} "
                "mHa in the sum of the states: more method.optimisation.steps"
            )
    limit = (module.schedule.until or TOLERANCE) * module.matrix.number
    if left is not None and max(left.error, total.stderr) > limit:
        reasons.append(
            f"the remaining error of the sum of the states may be {1e3 * left.error:.1f} mHa, more than "
            f"{1e3 * limit:g}: more method.optimisation.steps or method.walkers"
        )
    if overlap is not None:
        reasons.append(SEPARATE)
    if overlap is not None and overlap.size > OVERLAPPING:
        reasons.append(
            f"states {overlap.first + 1} and {overlap.second + 1} have the overlap {overlap.size:.2f}: more "
            "method.optimisation.steps, or a larger method.penalty"
        )
    reasons += unsteady(module, "the sum of the energies", change)
    return reasons, left


def _levels(module: ExcitedStates, found: Spectrum, dipoles: np.ndarray) -> list[dict[str, Any]]:
    """Energy, gap to the lowest level, spin and dipole of every cluster of states."""
    spins = found.mean_of(np.array(module.series[SPIN]))
    nuclei = module.system.charges @ module.system.positions
    moments = [found.mean_of(dipoles[:, c]) for c in range(3)]
    levels = []
    for index, (states, energy) in enumerate(zip(found.clusters, found.energies, strict=True)):
        level: dict[str, Any] = {
            "states": len(states),
            "energy_hartree": energy.value,
            "stderr_hartree": energy.stderr,
            "spin_squared": {"value": spins[index].value, "stderr": _known(spins[index].stderr)},
            "dipole_e_bohr": {
                "value": [moments[c][index].value + float(nuclei[c]) for c in range(3)],
                "stderr": [_known(moments[c][index].stderr) for c in range(3)],
            },
        }
        multiplicity = pure_multiplicity(spins[index], module.system.n_electrons)
        level |= {} if multiplicity is None else {"multiplicity": multiplicity}
        level |= _configuration(module, found.right[:, states[0]])
        if index:
            gap = found.gap(0, index)
            level["gap_ev"], level["stderr_gap_ev"] = gap.value * EV_PER_HARTREE, gap.stderr * EV_PER_HARTREE
        levels.append(level)
    return levels


def _configuration(module: ExcitedStates, mixture: np.ndarray) -> dict[str, Any]:
    """Leading configuration of an eigenvector, in natural orbitals numbered from 1; nothing for other states."""
    shared = module.matrix.shared
    if not isinstance(shared, HasConfigurations):
        return {}
    # The eigenvector refers to states divided by exp(gauge).
    found = shared.leading(torch.tensor(mixture.real) * torch.exp(-module.matrix.gauge.double().cpu()))
    if found is None:
        return {}
    spins, share = found
    numbers = Counter(orbital + 1 for occupied in spins for orbital in occupied)
    text = " ".join(f"{orbital}{'²' if numbers[orbital] == 2 else ''}" for orbital in sorted(numbers))
    return {"configuration": text, "configuration_share": share}


def pure_multiplicity(spin_squared: Estimate, electrons: int) -> int | None:
    """2 S + 1 of the spin of so many electrons whose S (S + 1) is nearest; None for a mixture of spins.

    A mixture is further from every S (S + 1) than `MIXED_SPIN` and three standard errors.
    """

    def distance(twice: int) -> float:
        return abs(twice / 2 * (twice / 2 + 1) - spin_squared.value)

    nearest = min(range(electrons % 2, electrons + 1, 2), key=distance)
    stderr = spin_squared.stderr if np.isfinite(spin_squared.stderr) else 0.0
    return None if distance(nearest) > max(MIXED_SPIN, 3.0 * stderr) else 1 + nearest


def _transitions(found: Spectrum, matrices: np.ndarray, dipoles: np.ndarray) -> Any:
    """Oscillator strengths between all levels, from one state of the lower to all of the upper."""
    for lower, upper in combinations(range(len(found.clusters)), 2):
        strength = oscillator_strength(matrices, dipoles, found.clusters, lower, upper)
        gap = found.gap(lower, upper)
        yield {
            "from": lower,
            "to": upper,
            "energy_ev": gap.value * EV_PER_HARTREE,
            "oscillator_strength": strength.value,
            "stderr_oscillator_strength": _known(strength.stderr),
        }


def _warnings(found: Spectrum) -> list[str]:
    """Levels that noise may mix."""
    warnings = []
    for lower in range(len(found.clusters) - 1):
        gap = found.gap(lower, lower + 1)
        if gap.value < MIXED * gap.stderr:
            warnings.append(
                f"levels {lower + 1} and {lower + 2} are {gap.value / gap.stderr:.1f} σ apart, little more than the "
                f"{DISTINCT:g} at which they count as one: more method.evaluation.steps"
            )
    return warnings


def _of_spin(levels: list[dict[str, Any]]) -> list[str]:
    """Levels that have no spin of their own."""
    return [
        f"level {number} has <S^2> = {level['spin_squared']['value']:.2f}, that of no spin: it mixes states of several "
        "spins, or holds several levels that the errors cannot tell apart: more method.optimisation.steps or "
        "method.evaluation.steps"
        for number, level in enumerate(levels, start=1)
        if "multiplicity" not in level
    ]


def _known(error: float) -> float | None:
    """Error bar; None instead of nan, which JSON lacks."""
    return error if np.isfinite(error) else None
