"""Main numbers of each task's result: names of columns, and their places in `result.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_PLACES: Final[dict[str, tuple[str | int, ...]]] = {
    "relaxation_steps": ("relaxation", "steps"),
    "imaginary_modes": ("vibrations", "n_imaginary"),
    "zero_point_energy_hartree": ("zero_point_energy_hartree",),
    "temperature_k": ("md", "temperature_k", "value"),
    "temperature_stderr_k": ("md", "temperature_k", "stderr"),
    "md_steps": ("md", "steps"),
    "scan_barrier_hartree": ("scan", "barrier_hartree"),
    "scan_barrier_stderr_hartree": ("scan", "barrier_stderr_hartree"),
    "imaginary_cm1": ("transition_state", "imaginary_cm1"),
    "barrier_hartree": ("barriers", "forward_hartree"),
    "reaction_energy_hartree": ("barriers", "reaction_hartree"),
    "first_gap_ev": ("excited", "states", 1, "gap_ev"),
    "first_gap_stderr_ev": ("excited", "states", 1, "stderr_gap_ev"),
    "ionisation_potential_ev": ("ionisation", "ionisation_potential", "ev"),
    "ionisation_potential_stderr_ev": ("ionisation", "ionisation_potential", "stderr_ev"),
    "electron_affinity_ev": ("ionisation", "electron_affinity", "ev"),
    "electron_affinity_stderr_ev": ("ionisation", "electron_affinity", "stderr_ev"),
    "remaining_error_hartree": ("vmc", "remaining", "error_hartree"),
    "test_energy_mae_kcal_mol": ("training", "parts", "test", "energy_mae_kcal_mol"),
    "structures": ("structures", "number"),
    "structures_ok": ("structures", "ok"),
    "conformers": ("conformers", "number"),
    "labels": ("distillation", "labels"),
    "energy_mae_kcal_mol": ("evaluation", "energy", "total", "mae"),
    "forces_mae_kcal_mol_angstrom": ("evaluation", "forces", "total", "mae"),
}


def main_numbers(document: Mapping[str, Any]) -> dict[str, float]:
    """Return the main numbers in a `result.json` by column name, with the unit in the name."""
    values = {name: _value(document, place) for name, place in _PLACES.items()}
    frequencies = document.get("frequencies_cm1")
    if isinstance(frequencies, list) and frequencies and all(isinstance(value, float) for value in frequencies):
        values = {"lowest_frequency_cm1": min(frequencies), **values}
    return {name: value for name, value in values.items() if value is not None}


def _value(node: Any, place: tuple[str | int, ...]) -> float | None:
    for step in place:
        held = (
            step in node
            if isinstance(node, dict)
            else isinstance(step, int) and isinstance(node, list) and len(node) > step
        )
        if not held:
            return None
        node = node[step]
    return node if isinstance(node, int | float) and not isinstance(node, bool) else None
