"""Result and terminal lines of a relaxation with forces that have error bars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from fusion.chemistry import units
from fusion.console.format import count, plus_minus
from fusion.runs.results import Result
from fusion.tasks.relax.averaged import Mean
from fusion.tasks.relax.points import NOISE
from fusion.tasks.relax.relaxation import STRUCTURE, Relaxed, Settings, short
from fusion.tasks.relax.report import details_of
from fusion.tasks.relax.stochastic import Descent

if TYPE_CHECKING:
    from fusion.chemistry.system import System

_BONDED: Final[float] = 1.3
"""Longest bond in sums of covalent radii."""

_SHOWN = 6


def outcome(descent: Descent, settings: Settings) -> Result:
    """Result at the last point, which is the mean of the last positions if the relaxation came so far."""
    last = descent.points[-1]
    above = bool(last.above(settings.fmax).any())
    reached = descent.mean is not None and not above
    converged = reached and last.result.status == "ok"
    status, stopped = "ok" if converged else "not_converged", _stopped(descent, settings, above)
    message = None if converged else stopped
    if descent.failure is not None:
        status = "failed"
    elif reached and not converged:
        message = last.result.message
    unconverged = sum(point.result.status != "ok" for point in descent.points[:-1])
    warnings = list(last.result.warnings)
    if unconverged:
        warnings.append(f"{unconverged} of {count(len(descent.points), 'calculation')} did not converge on the way")
    return Result(
        last.result.system,
        status,
        last.result.energy,
        last.result.energy_stderr,
        last.result.energy_std,
        dict(last.result.properties),
        # The verdict of the relaxation comes before that of its last calculation.
        {"relaxation": _details(descent, settings, converged, stopped), **last.result.details},
        message,
        warnings,
        last.result.files,
    )


def _stopped(descent: Descent, settings: Settings, above: bool) -> str:
    """Reason why the relaxation stopped."""
    last = descent.points[-1]
    internal = "" if descent.start.fixed is not None else " without net force and torque"
    force = f"largest force{internal} {plus_minus(last.largest, last.largest_stderr)} Ha/bohr"
    if descent.failure is not None:
        return f"step {descent.steps + 1}: {descent.failure}; the result is the last good geometry"
    if descent.mean is None or above:
        where = f"; continue with task.steps={2 * settings.steps}, or from {STRUCTURE}"
        reached = "the forces did not settle within their noise" if descent.mean is None else "above its noise"
        return f"{force} after {count(descent.steps, 'step')}, {reached}{where}"
    if last.largest <= settings.fmax:
        return f"{force}, below {short(settings.fmax)} Ha/bohr"
    return f"{force}: all forces are below {NOISE:g} times their errors"


def _details(descent: Descent, settings: Settings, converged: bool, stopped: str) -> dict[str, Any]:
    points = descent.points
    last = points[-1]
    energies = [float(point.result.energy or 0.0) for point in points]
    forces = [point.largest for point in points]
    details = details_of(Relaxed(descent.start, last.result, converged, energies, forces, settings, descent.failure))
    details |= {
        "verdict": stopped,
        "forces_hartree_per_bohr": last.forces.tolist(),
        "forces_stderr_hartree_per_bohr": last.stderr.tolist(),
        "largest_force_stderr_hartree_per_bohr": last.largest_stderr,
        "energies_stderr_hartree": [point.result.energy_stderr for point in points],
        "largest_forces_stderr_hartree_per_bohr": [point.largest_stderr for point in points],
        "step_lengths_bohr": descent.lengths,
    }
    return details | (_of_mean(descent.mean, descent.start) if descent.mean is not None else {})


def _of_mean(mean: Mean, system: System) -> dict[str, Any]:
    """Details of the averaged positions: their errors, and bonds with errors."""
    bonds = []
    for first, second in _bonds(system.moved(mean.positions)):
        distance, stderr = (units.ANGSTROM_PER_BOHR * value for value in mean.distance(first, second))
        name = f"{system.symbols[first]}{first + 1}-{system.symbols[second]}{second + 1}"
        bonds.append({"bond": name, "angstrom": distance, "stderr_angstrom": stderr})
    return {
        "averaged_positions": len(mean.series),
        "positions_stderr_angstrom": (mean.positions_stderr * units.ANGSTROM_PER_BOHR).tolist(),
        "bonds": bonds,
    }


def _bonds(system: System) -> list[tuple[int, int]]:
    """Pairs of bonded atoms of a molecule."""
    from ase.data import atomic_numbers, covalent_radii

    if any(system.pbc):
        return []
    radii = [covalent_radii[atomic_numbers[symbol]] * units.BOHR_PER_ANGSTROM for symbol in system.symbols]
    positions = system.positions
    return [
        (first, second)
        for first, second in combinations(range(len(radii)), 2)
        if ((positions[first] - positions[second]) ** 2).sum() < (_BONDED * (radii[first] + radii[second])) ** 2
    ]


def rows(relaxation: Mapping[str, Any]) -> Iterator[list[str]]:
    """Terminal lines on the averaged positions and bonds from the `relaxation` of `result.json`."""
    errors = relaxation.get("positions_stderr_angstrom")
    if not errors or relaxation["averaged_positions"] == 1:  # a single atom
        return
    largest = max(sum(value**2 for value in error) ** 0.5 for error in errors)
    averaged = count(relaxation["averaged_positions"], "position")
    yield ["positions", f"mean of the last {averaged}", f"standard error up to {largest:.2g} Å"]
    bonds = relaxation["bonds"]
    for bond in bonds[:_SHOWN]:
        yield ["bond", f"{plus_minus(bond['angstrom'], bond['stderr_angstrom'], digits=1)} Å", bond["bond"]]
    if len(bonds) > _SHOWN:
        yield ["", f"and {count(len(bonds) - _SHOWN, 'further bond')} in result.json"]
