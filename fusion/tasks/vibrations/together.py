"""Vibrations of many structures, each at its own minimum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fusion.chemistry.constraints import free_part
from fusion.chemistry.system import System
from fusion.methods import protocol
from fusion.methods.protocol import Method
from fusion.runs.results import Result
from fusion.tasks.geometry.normal_modes import normal_modes
from fusion.tasks.geometry.structures import largest_force, without_torque
from fusion.tasks.relax.relaxation import short
from fusion.tasks.relax.together import Relaxations
from fusion.tasks.vibrations.analysis import Conditions, describe
from fusion.tasks.vibrations.hessian import NEEDS


class ManyVibrations:
    """`Calculation` of harmonic frequencies at stationary points, after `relaxations` if there are any.

    `fmax` is the largest force of a stationary point, hartree/bohr.
    """

    def __init__(self, relaxations: Relaxations | None, fmax: float, conditions: Conditions, purpose: str) -> None:
        self._relaxations, self._fmax = relaxations, fmax
        self._conditions, self._purpose = conditions, purpose

    def check(self, method: Method, systems: Sequence[System]) -> None:
        """Raise InputError for structures that cannot be calculated."""
        protocol.require(method, NEEDS, self._purpose, systems)
        if self._relaxations is not None:
            self._relaxations.check(method, systems)

    def calculate(self, method: Method, systems: Sequence[System]) -> list[Result]:
        """Return the results at the stationary points, with frequencies, zero-point and Gibbs energy as columns."""
        results = [Result(system) for system in systems]
        if self._relaxations is not None:
            results = self._relaxations.calculate(method, systems)
        return [self._with_frequencies(method, result) if result.status == "ok" else result for result in results]

    def _with_frequencies(self, method: Method, relaxed: Result) -> Result:
        (result,) = protocol.calculate(method, [relaxed.system], NEEDS)
        if result.status != "ok":
            return result
        system, hessian = result.system, np.asarray(result.properties.pop("hessian"))
        modes = normal_modes(hessian, system.positions, system.nuclear_masses, any(system.pbc), system.fixed)
        details = describe(result, modes, self._conditions)
        columns = {
            "lowest_cm1": f"{modes.frequencies.min(initial=np.inf):.2f}",
            "imaginary": details["vibrations"]["n_imaginary"],
            "zero_point_hartree": f"{modes.zero_point_energy:.8f}",
        }
        if gibbs := details.get("thermochemistry", {}).get("gibbs_hartree"):
            columns["gibbs_hartree"] = f"{gibbs:.8f}"
        columns["frequencies_cm1"] = " ".join(f"{value:.2f}" for value in modes.frequencies)
        result = replace(result, details={"columns": relaxed.details.get("columns", {}) | columns})
        forces = free_part(system, np.asarray(result.properties["forces"]))
        if not any(system.pbc) and system.fixed is None:
            forces = without_torque(forces, system.positions)
        force = largest_force(forces)
        if force > self._fmax:
            result.status = "not_converged"
            limit = short(self._fmax)
            result.message = f"not a stationary point: largest force {short(force)} Ha/bohr, above {limit} Ha/bohr"
        return result
