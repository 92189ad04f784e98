"""Transition states: search by eigenvector following, proof by exactly one imaginary mode of the full Hessian."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.chemistry.constraints import free_part
from fusion.errors import CalculationError
from fusion.methods import protocol
from fusion.runs.results import Result
from fusion.tasks.geometry import geometric
from fusion.tasks.geometry.normal_modes import NormalModes, largest_movers, normal_modes
from fusion.tasks.geometry.structures import constrained, largest_force, write_frames

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.recorded import Journal

NEEDS = frozenset({"energy", "forces", "hessian"})
_FRAMES = 20  # of one period of a mode
_AMPLITUDE_ANGSTROM = 0.3  # of the atom that moves most


@dataclass(frozen=True)
class Saddle:
    """End of a search: result with its exact Hessian, modes, and the numbers of steps and Hessians.

    `failure`: reason why this is not a transition state; None if it is one.
    """

    result: Result
    modes: NormalModes
    steps: int
    hessians: int
    largest_force: float
    imaginary: int
    failure: str | None

    @property
    def hessian(self) -> np.ndarray:
        return np.asarray(self.result.properties["hessian"])


def search(
    journal: Journal, system: System, fmax: float, steps: int, every: int, noise_cm1: float, log: Path
) -> Saddle:
    """Search for a transition state from `system` until the largest force is below `fmax` (hartree/bohr).

    The Hessian is calculated at the start and after every `every` steps, and updated in between. Raises
    CalculationError if it cannot be calculated.
    """
    from fusion.console.phases import phase

    done, hessians, trust = 0, 0, None
    with phase("saddle") as bar:

        def watch(number: int, energy: float, force: float) -> None:
            bar(done + number, f"E = {energy:.6f} Ha  largest force {force:.1e} Ha/bohr")

        def show(text: str) -> None:
            bar(done, text)

        while True:
            hessian = np.asarray(hessian_at(journal, system, show).properties["hessian"])
            hessians += 1
            with geometric.logging_to(log):
                ended = geometric.saddle(journal, system, hessian, fmax, min(every, steps - done), trust, watch)
            done, system, trust = done + ended.steps, ended.system, ended.trust
            if ended.converged or done >= steps or (ended.failure is not None and ended.steps == 0):
                break
        result = hessian_at(journal, system, show)
        bar(done, f"in {done} steps, {hessians + 1} Hessians")
    reason = None if ended.converged else ended.failure or f"no stationary point in {done} steps"
    return verify(result, fmax, noise_cm1, done, hessians + 1, reason)


def verify(
    result: Result, fmax: float, noise_cm1: float, steps: int = 0, hessians: int = 1, failure: str | None = None
) -> Saddle:
    """Check that a result with forces and Hessian is a transition state."""
    modes = modes_of(result)
    imaginary = int((modes.frequencies < -noise_cm1).sum())
    force = largest_force(free_part(result.system, np.asarray(result.properties["forces"])))
    if failure is None and force > fmax * 1.001:
        failure = f"not a stationary point: largest force {force:.1e} Ha/bohr, above {fmax:g} Ha/bohr"
    if imaginary != 1:
        count = "no imaginary mode, so a minimum" if imaginary == 0 else f"{imaginary} imaginary modes"
        lowest = ", ".join(f"{frequency:.0f}" for frequency in modes.frequencies[: max(imaginary, 1)])
        fault = f"it has {count} (lowest: {lowest} cm⁻¹, imaginary ones negative), where a transition state has one"
        failure = f"{failure}; {fault}" if failure else fault
    return Saddle(result, modes, steps, hessians, force, imaginary, failure)


def modes_of(result: Result) -> NormalModes:
    """Normal modes of a result with a Hessian."""
    system, hessian = result.system, np.asarray(result.properties["hessian"])
    return normal_modes(hessian, system.positions, system.nuclear_masses, any(system.pbc), system.fixed)


def hessian_at(journal: Journal, system: System, say: Callable[[str], None] | None = None) -> Result:
    """Energy, forces and Hessian (3A, 3A), analytic or by differences of forces. Raises CalculationError.

    `say` is called with the progress in words.
    """
    if say is not None:
        total = 6 * len(system.symbols)
        say("Hessian")
        journal.watch = lambda done: say(f"Hessian: {done} of {total} displacements")
    try:
        (result,) = protocol.calculate(journal, [system], NEEDS)
    finally:
        journal.watch = None
    if result.status != "ok" or result.energy is None:
        raise CalculationError(f"no Hessian: {result.message or result.status}")
    return result


def describe(saddle: Saddle) -> dict[str, Any]:
    """Details of a transition state for `result.json`. Imaginary frequencies are negative numbers."""
    frequencies = saddle.modes.frequencies
    details: dict[str, Any] = {
        "n_imaginary": saddle.imaginary,
        "frequencies_cm1": frequencies.tolist(),
        "zero_point_energy_hartree": saddle.modes.zero_point_energy,
        "largest_force_hartree_per_bohr": saddle.largest_force,
        "steps": saddle.steps,
        "hessians": saddle.hessians,
    }
    if len(frequencies) and frequencies[0] < 0:
        displacement = saddle.modes.displacements[0]
        details["imaginary_cm1"] = float(frequencies[0])
        details["movers"] = largest_movers(displacement, saddle.result.system.symbols, most=4)
        details["mode"] = displacement.tolist()
    return details


def write_mode(path: Path, saddle: Saddle) -> None:
    """Write one period of the lowest mode as extxyz frames."""
    frequency, mode = float(saddle.modes.frequencies[0]), saddle.modes.displacements[0]
    atoms = constrained(saddle.result.system)
    scale = _AMPLITUDE_ANGSTROM / np.linalg.norm(mode, axis=1).max()
    frames = []
    for angle in np.linspace(0.0, 2.0 * np.pi, _FRAMES, endpoint=False):
        displaced = atoms.copy()
        displaced.positions += scale * np.sin(angle) * mode
        displaced.info = {"frequency_cm1": round(frequency, 3)}
        frames.append(displaced)
    write_frames(path, frames)
