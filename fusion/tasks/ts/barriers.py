"""Barriers: energies of a transition state relative to the minima on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.methods.ensemble import member_energies
from fusion.runs.results import Result
from fusion.tasks.ts.saddle import Saddle, hessian_at, modes_of

if TYPE_CHECKING:
    from fusion.methods.recorded import Journal

_PAIRS = {"forward": ("transition_state", "reactant"), "reverse": ("transition_state", "product")}
_PAIRS |= {"reaction": ("product", "reactant")}


def barriers(
    journal: Journal, reactant: Result, saddle: Saddle, product: Result, noise_cm1: float, zero_point: bool
) -> dict[str, Any]:
    """Forward and reverse barrier and reaction energy, hartree, with the spread of an ensemble's members.

    `zero_point`: add values with zero-point energies. This takes the Hessians of both minima, which also show if these
    are minima. Raises CalculationError if a Hessian cannot be calculated.
    """
    results = {"reactant": reactant, "transition_state": saddle.result, "product": product}
    energies = {name: result.energy or 0.0 for name, result in results.items()}
    details: dict[str, Any] = {f"{name}_energy_hartree": energy for name, energy in energies.items()}
    details |= _differences(energies)
    members = member_energies(journal, [result.system for result in results.values()])
    if members is not None:
        by_name = dict(zip(results, members, strict=True))
        for name, (upper, lower) in _PAIRS.items():
            details[f"{name}_std_hartree"] = float(np.std(by_name[upper] - by_name[lower], ddof=1))
    if zero_point:
        modes = {name: modes_of(hessian_at(journal, results[name].system)) for name in ("reactant", "product")}
        modes["transition_state"] = saddle.modes
        zero_points = {name: normal_modes.zero_point_energy for name, normal_modes in modes.items()}
        details |= {f"{name}_zero_point_hartree": zero_points[name] for name in results}
        details["with_zero_point"] = _differences({name: energies[name] + zero_points[name] for name in results})
        details["n_imaginary"] = {
            name: int((modes[name].frequencies < -noise_cm1).sum()) for name in ("reactant", "product")
        }
    return details


def faults(details: dict[str, Any]) -> Iterator[str]:
    """Yield faults: minima with imaginary modes, and negative barriers."""
    for name, imaginary in details.get("n_imaginary", {}).items():
        if imaginary:
            modes = f"{imaginary} imaginary mode{'' if imaginary == 1 else 's'}"
            yield f"the {name} is not a minimum: it has {modes}"
    for name, below in (("forward", "reactant"), ("reverse", "product")):
        if details.get(f"{name}_hartree", 0.0) < 0.0:
            yield f"the {name} barrier is negative: the transition state lies below the {below}"


def _differences(energies: dict[str, float]) -> dict[str, float]:
    return {f"{name}_hartree": energies[upper] - energies[lower] for name, (upper, lower) in _PAIRS.items()}
