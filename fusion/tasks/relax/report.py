"""Result, verdict and terminal lines of a relaxation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.chemistry import units
from fusion.runs.results import Result
from fusion.tasks.relax.relaxation import BFGS, STRUCTURE, Relaxed, Settings, short

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.runs.run import Run

_GPA_PER_HARTREE_BOHR3 = units.GPA_PER_HARTREE_BOHR3


def describe(settings: Settings) -> str:
    """Description for titles: `relax to 1e-04 Ha/bohr, atoms and cell, at 2 GPa`."""
    cell = ", atoms and cell" if settings.cell else ""
    pressure = f", at {settings.pressure_gpa:g} GPa" if settings.pressure_gpa else ""
    return f"relax to {short(settings.fmax)} Ha/bohr{cell}{pressure}"


def outcome(relaxed: Relaxed, run: Run) -> Result:
    """Result of a run that relaxes: status, message and `relaxation` in the details."""
    result, details = relaxed.result, details_of(relaxed)
    status, message = "ok", result.message
    if relaxed.failure is not None:
        status, message = "failed", f"step {relaxed.steps + 1}: {relaxed.failure}; the result is the last good geometry"
    elif not relaxed.converged:
        status, message = "not_converged", why_not(relaxed, run)
    return Result(
        result.system,
        status,
        result.energy,
        result.energy_stderr,
        result.energy_std,
        dict(result.properties),
        {**result.details, "relaxation": details},
        message,
    )


def details_of(relaxed: Relaxed) -> dict[str, Any]:
    """Details of a relaxation for `result.json`."""
    settings, end, start = relaxed.settings, relaxed.result.system, relaxed.start
    details: dict[str, Any] = {
        "steps": relaxed.steps,
        "converged": relaxed.converged,
        "fmax_hartree_per_bohr": settings.fmax,
        "largest_force_hartree_per_bohr": relaxed.largest_forces[-1],
        "initial_energy_hartree": relaxed.energies[0],
        "final_energy_hartree": relaxed.energies[-1],
        "displacement_rmsd_angstrom": rmsd(start, end),
        "energies_hartree": relaxed.energies,
        "largest_forces_hartree_per_bohr": relaxed.largest_forces,
    }
    if relaxed.converged:
        details["verdict"] = (
            f"largest force {short(relaxed.largest_forces[-1])} Ha/bohr, asked for {short(settings.fmax)} Ha/bohr"
        )
    if end.fixed is not None:
        details["fixed_atoms"] = (np.flatnonzero(end.fixed.any(axis=1)) + 1).tolist()
    if end.cell is not None and start.cell is not None and all(end.pbc):
        volumes = [abs(float(np.linalg.det(cell))) for cell in (start.cell, end.cell)]
        details["cell_angstrom"] = (end.cell * units.ANGSTROM_PER_BOHR).tolist()
        details["initial_volume_angstrom3"], details["volume_angstrom3"] = (
            volume * units.ANGSTROM_PER_BOHR**3 for volume in volumes
        )
        if settings.cell:
            stress = np.asarray(relaxed.result.properties["stress"])
            details["pressure_gpa"] = -float(np.trace(stress)) / 3.0 * _GPA_PER_HARTREE_BOHR3
            details["asked_pressure_gpa"] = settings.pressure_gpa
            work = settings.pressure_gpa / _GPA_PER_HARTREE_BOHR3 * volumes[1]
            details["enthalpy_hartree"] = relaxed.energies[-1] + work
    return details


def uphill(relaxed: Relaxed) -> str:
    """Message about a relaxation that ended above its start, and the advice."""
    rise = relaxed.energies[-1] - relaxed.energies[0]
    return (
        f"the energy has risen by {rise:.4f} Ha after {relaxed.steps} steps: the optimiser went uphill, as L-BFGS does "
        f"far from a minimum. Start closer, or relax it alone with task.optimiser._target_={BFGS}"
    )


def why_not(relaxed: Relaxed, run: Run) -> str:
    """Reason why a relaxation did not converge, and the advice."""
    forces = np.array(relaxed.largest_forces)
    if relaxed.climbed:
        return uphill(relaxed)
    text = (
        f"largest force {short(forces[-1])} Ha/bohr after {relaxed.steps} steps, "
        f"above {short(relaxed.settings.fmax)} Ha/bohr"
    )
    half = len(forces) // 2
    stalled = relaxed.stuck or (half >= 10 and forces[half:].min() >= 0.5 * forces[:half].min())
    if stalled and forces.min() < 1e-4 and run.config.get("dtype") == "float32":
        return f"{text}: it stopped falling near {short(forces.min())}, the noise of float32. Set dtype=float64"
    if stalled:
        return f"{text}, and no longer falling: another task.optimiser._target_ may help (ase.optimize.FIRE)"
    return f"{text}; continue with task.steps={2 * relaxed.settings.steps}, or from {STRUCTURE}"


def rows(relaxation: Mapping[str, Any]) -> Iterator[list[str]]:
    """Terminal lines from the `relaxation` of `result.json`."""
    if not relaxation:
        return
    from fusion.console import units as printed_units
    from fusion.console.format import count

    gain = relaxation["final_energy_hartree"] - relaxation["initial_energy_hartree"]
    yield [
        "relaxed" if relaxation["converged"] else "moved",
        f"in {count(relaxation['steps'], 'step')}",
        f"energy {printed_units.relative(gain, '+')}",
        f"atoms {relaxation['displacement_rmsd_angstrom']:.3f} Å rms",
    ]
    if "pressure_gpa" in relaxation:
        change = relaxation["volume_angstrom3"] / relaxation["initial_volume_angstrom3"] - 1.0
        columns = [f"{100 * change:+.2f} %", f"remaining pressure {relaxation['pressure_gpa']:.3f} GPa"]
        yield ["cell", f"{relaxation['volume_angstrom3']:.2f} Å³", *columns]


def rmsd(start: System, end: System) -> float:
    """Root mean square displacement of the atoms in Angstrom.

    A molecule without held atoms is first superimposed by translation and rotation. For a periodic system it is the
    displacement of the fractional coordinates in the final cell, without the mean shift.
    """
    from ase.build import minimize_rotation_and_translation

    before, after = start.to_atoms(), end.to_atoms()
    if start.fixed is not None:
        difference = after.positions - before.positions
    elif any(start.pbc):
        before.set_cell(after.cell, scale_atoms=True)
        difference = after.positions - before.positions
        difference -= difference.mean(axis=0)
    else:
        minimize_rotation_and_translation(after, before)
        difference = after.positions - before.positions
    return float(np.sqrt((difference**2).sum(axis=1).mean()))
