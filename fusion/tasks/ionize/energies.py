"""Ionisation potential and electron affinity from the energies of the states.

Vertical: all states have the geometry of the system. IP = E(N - 1) - E(N) and EA = E(N) - E(N + 1). The states of a
stochastic method are independent runs, so that their statistical errors add in quadrature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fusion.chemistry import units
from fusion.methods.ensemble import MEMBERS
from fusion.runs.results import Result
from fusion.tasks.ionize.states import ANION, CATION, SYSTEM, State

POTENTIAL, AFFINITY = "ionisation_potential", "electron_affinity"

_PAIRS = ((POTENTIAL, CATION, SYSTEM), (AFFINITY, SYSTEM, ANION))
"""Quantity, and the states whose energies it is the difference of: upper minus lower."""

_UNITS = (
    ("hartree", 1.0),
    ("ev", units.EV_PER_HARTREE),
    ("kcal_mol", units.KCAL_MOL_PER_HARTREE),
)


def describe(states: Sequence[State], results: Mapping[str, Result]) -> dict[str, Any]:
    """The `ionisation` of result.json: the states, and the quantities whose two energies are known.

    `results` by name of the state. A quantity has its value and its errors in hartree, eV and kcal/mol, and the
    difference of the listed energies as reference.
    """
    document: dict[str, Any] = {"states": [_state(state, results[state.name]) for state in states]}
    by_name = {state.name: state for state in states}
    for quantity, upper, lower in _PAIRS:
        if upper in results and lower in results:
            value = difference(results[upper], results[lower])
            if value is not None:
                document[quantity] = value | _compared(value["hartree"], by_name[upper], by_name[lower])
    return document


def difference(upper: Result, lower: Result) -> dict[str, float] | None:
    """Energy of `upper` above `lower` in every unit, with its errors as far as the results have them; None without one.

    `stderr`: statistical error. `std`: standard deviation of the members' own differences (ensembles).
    """
    if upper.energy is None or lower.energy is None:
        return None
    numbers = {"": upper.energy - lower.energy}
    errors = [error for error in (upper.energy_stderr, lower.energy_stderr) if error is not None]
    if errors:
        numbers["stderr_"] = math.hypot(*errors)
    above, below = (np.asarray(result.properties.get(MEMBERS, result.energy)) for result in (upper, lower))
    if above.ndim or below.ndim:
        numbers["std_"] = float(np.std(above - below, ddof=1))
    return {f"{kind}{unit}": number * factor for kind, number in numbers.items() for unit, factor in _UNITS}


def _state(state: State, result: Result) -> dict[str, Any]:
    """Row of a state for result.json."""
    document: dict[str, Any] = {"name": state.name, "label": state.label, "charge": state.charge}
    if state.system is not None:
        document["multiplicity"] = state.system.multiplicity
    document |= {"chosen_by": state.origin, "status": result.status}
    optional = {"message": result.message, "energy_hartree": result.energy, "stderr_hartree": result.energy_stderr}
    document |= {key: value for key, value in optional.items() if value is not None}
    if state.reference is not None:
        document["reference"] = {"hartree": state.reference.value, "source": state.reference.source}
    return document


def _compared(energy: float, upper: State, lower: State) -> dict[str, Any]:
    """Difference (hartree) of the listed energies as reference of `energy`; empty if one of them is not known."""
    above, below = upper.reference, lower.reference
    if above is None or below is None:
        return {}
    reference: dict[str, Any] = {
        "hartree": above.value - below.value,
        "source": f"{upper.label}: {above.source}; {lower.label}: {below.source}",
        "difference_mhartree": units.MILLIHARTREE_PER_HARTREE * (energy - above.value + below.value),
    }
    uncertainties = [value for value in (above.uncertainty, below.uncertainty) if value is not None]
    return {"reference": reference | ({"uncertainty_hartree": math.hypot(*uncertainties)} if uncertainties else {})}
