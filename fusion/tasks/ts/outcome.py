"""Results of a search for a transition state, with faults and doubts about its barriers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.chemistry.constraints import free_part
from fusion.runs.results import Result

if TYPE_CHECKING:
    from fusion.methods.recorded import Journal
    from fusion.tasks.ts.neb import Path as BandPath
    from fusion.tasks.ts.saddle import Saddle


def describe_path(path: BandPath, journal: Journal) -> dict[str, Any]:
    """Details of the band for `result.json`; spreads are those of energies relative to the reactant."""
    from fusion.methods.ensemble import member_energies, spreads_of_differences
    from fusion.tasks.geometry.structures import largest_force

    members = member_energies(journal, [result.system for result in path.results])
    details = {
        "images": len(path.results),
        "converged": path.converged,
        "steps": path.steps,
        "largest_force_hartree_per_bohr": path.largest_force,
        "energies_hartree": path.energies.tolist(),
        "lengths_angstrom": path.lengths.tolist(),
        "top_image": path.top + 1,
        "minima_between": [index + 1 for index in _minima_between(path)],
    }
    ends = zip(("reactant", "product"), (path.results[0], path.results[-1]), strict=True)
    details["forces_at_ends_hartree_per_bohr"] = {
        name: largest_force(free_part(end.system, np.asarray(end.properties["forces"]))) for name, end in ends
    }
    if members is not None:
        details["relative_std_hartree"] = spreads_of_differences(members, 0).tolist()
    return details


def outcome(saddle: Saddle, details: dict[str, Any]) -> Result:
    """Result of the run: ok for a proven transition state of the requested reaction.

    A proven saddle point whose path or ends are not those of the reaction is `not_converged`, because its barriers
    have no meaning. Lesser doubts are warnings.
    """
    result = saddle.result
    properties = {name: value for name, value in result.properties.items() if name != "hessian"}
    status, message, warnings = "ok", result.message, list(result.warnings)
    if saddle.failure is not None:
        status, message = "not_converged", saddle.failure
    else:
        frequency = -details["transition_state"]["imaginary_cm1"]
        proof = f"one imaginary mode, {frequency:.0f}i cm⁻¹; largest force {saddle.largest_force:.1e} Ha/bohr"
        faults, doubts = list(_faults(details)), list(_doubts(details))
        message = "; ".join(part for part in (message, *_unrelaxed(details)) if part) or None
        if faults:
            details["transition_state"]["proof"] = proof
            warnings += doubts + ([message] if message else [])
            status = "not_converged"
            message = f"the saddle point is proven ({proof}), but not its reaction: {'; '.join(faults)}"
        else:
            details["transition_state"]["verdict"] = proof
            warnings += doubts
    return Result(
        result.system,
        status,
        result.energy,
        result.energy_stderr,
        result.energy_std,
        properties,
        result.details | details,
        message,
        warnings,
    )


def _faults(details: dict[str, Any]) -> Iterator[str]:
    """Yield reasons why the barriers of a proven transition state are not those of the reaction."""
    from fusion.tasks.ts import barriers

    path, irc = details.get("path"), details.get("irc")
    yield from barriers.faults(details.get("barriers", {}))
    if path and irc and not _connects(irc):
        yield "the path downhill does not connect reactant and product: the barriers are not those of one step"
    if path and not path["converged"] and not irc:
        yield f"{_band(path)}; raise task.path_steps, or set task.irc=true to see what the saddle point connects"
    for direction in ("backward", "forward"):
        if irc and not irc[direction]["relaxed"]:
            yield f"the {direction} end did not relax"


def _doubts(details: dict[str, Any]) -> Iterator[str]:
    """Yield doubts about a proven transition state that a reader must know before using its barriers."""
    path, irc = details.get("path"), details.get("irc")
    if path and not path["converged"] and irc:
        yield _band(path)
    if path and path["minima_between"]:
        numbers = ", ".join(str(number) for number in path["minima_between"])
        yield f"the path has an intermediate minimum (image {numbers}): several steps, of which this is the highest"
    for direction in ("backward", "forward"):
        if irc and irc[direction]["relaxed"] and not irc[direction]["arrived"]:
            points, failure = irc[direction]["points"], irc[direction].get("failure")
            reason = f" ({failure})" if failure else ""
            yield f"the {direction} path still goes down after {points} points{reason}; its end was relaxed from there"
    if path and not irc and details["transition_state"]["shift_from_path_angstrom"] > 0.5:
        yield "the transition state is far from the path's top; set task.irc=true to see what it connects"


def _unrelaxed(details: dict[str, Any]) -> Iterator[str]:
    """Yield remarks on ends with large forces that were not to be relaxed."""
    path = details.get("path") or {}
    for name, force in path.get("forces_at_ends_hartree_per_bohr", {}).items():
        if force > path["ends_fmax_hartree_per_bohr"] * 1.001:
            yield f"the {name} is not relaxed: largest force {force:.1e} Ha/bohr"


def _connects(irc: dict[str, Any]) -> bool:
    return {irc[direction].get("is") for direction in ("backward", "forward")} == {"reactant", "product"}


def _band(path: dict[str, Any]) -> str:
    force = path["largest_force_hartree_per_bohr"]
    return f"the band itself did not converge ({force:.1e} Ha/bohr after {path['steps']} steps)"


def no_barrier(path: BandPath, details: dict[str, Any]) -> Result:
    """Result of a run whose path has no maximum between its ends."""
    result = path.results[path.top]
    end = "product" if path.top else "reactant"
    message = f"no barrier: along the path the energy is highest at the {end} itself (is it a minimum?)"
    return Result(
        result.system, "not_converged", result.energy, energy_std=result.energy_std, details=details, message=message
    )


def _minima_between(path: BandPath) -> list[int]:
    """Images lower than both neighbours by more than 0.5 mHa (0.3 kcal/mol)."""
    energies = path.energies
    inner = range(1, len(energies) - 1)
    return [
        i
        for i in inner
        if energies[i] < min(energies[:i].max(), energies[i + 1 :].max()) - 5e-4
        and energies[i] <= min(energies[i - 1], energies[i + 1])
    ]
