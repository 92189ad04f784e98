"""Description of a finished SCF: details of its result, and the reason of a failure."""

from __future__ import annotations

from typing import Any

import numpy as np


def describe(mean_field: Any, basis: str, start: str) -> dict[str, Any]:
    """JSON-able details of an SCF, units in the key names; `start` names its starting density."""
    unrestricted, dropped = mean_field.istype("UHF"), mean_field._numint.dropped
    details: dict[str, Any] = {
        "basis": basis,
        "functions": int(mean_field.mol.nao),
        "grid_level": mean_field.grids.level,
        "grid_points": int(np.count_nonzero(mean_field.grids.weights)),
        "grid_points_left_out": dropped.points,
        "error_of_those_hartree": dropped.energy,
        "conv_tol_hartree": mean_field.conv_tol,
        "reference": "UKS" if unrestricted else "RKS",
        "start": start,
        "cycles": mean_field.cycles,
        "attempts": [_attempt(attempt) for attempt in mean_field.attempts],
        "torque_of_grid_hartree": mean_field.torque if mean_field.torque > mean_field.conv_tol else None,
        "xc_hartree": float(mean_field.scf_summary["exc"]),
        "dispersion_hartree": mean_field.scf_summary.get("dispersion"),
        **_frontier(mean_field),
    }
    if unrestricted and mean_field.occupations is not None:
        details["occupations"] = [list(map(float, numbers)) for numbers in mean_field.occupations]
    if unrestricted and not mean_field.fractional:
        up, down = (float(np.sum(numbers)) for numbers in mean_field.mo_occ)
        half = 0.5 * abs(up - down)
        details["spin_squared"] = float(mean_field.spin_square()[0])
        details["spin_squared_of_pure_state"] = half * (half + 1.0)
    if mean_field.remarks:
        details["remarks"] = list(mean_field.remarks)
    return {key: value for key, value in details.items() if value is not None}


def unconverged(mean_field: Any) -> str:
    """Reason why there is no energy, with advice, in one line."""
    attempts = mean_field.attempts
    *names, last = [attempt.name for attempt in attempts]
    tried = f"{', '.join(names)} and {last}" if names else last
    return (
        f"not converged after {tried} (dE {abs(attempts[-1].change):.0e} Ha, gradient {attempts[-1].gradient:.0e} Ha); "
        "try method.level_shift=0.5, a larger method.max_cycle or another method.start"
    )


def _attempt(attempt: Any) -> dict[str, Any]:
    return {
        "name": attempt.name,
        "cycles": attempt.cycles,
        "converged": attempt.converged,
        "energy_hartree": attempt.energy,
        "gradient_hartree": attempt.gradient,
    }


def _frontier(mean_field: Any) -> dict[str, float | None]:
    """Energies of the highest occupied and the lowest empty orbital, over both spins."""
    energies, numbers = np.ravel(mean_field.mo_energy), np.ravel(mean_field.mo_occ)
    filled, empty = energies[numbers > 0], energies[numbers == 0]
    return {
        "homo_hartree": float(filled.max()) if filled.size else None,
        "lumo_hartree": float(empty.min()) if empty.size else None,
    }
