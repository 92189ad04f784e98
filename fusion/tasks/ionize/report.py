"""Lines on an ionisation under the energy of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from fusion.chemistry import spin_states
from fusion.chemistry.units import MILLIHARTREE_PER_HARTREE
from fusion.console import units
from fusion.console.format import difference, plus_minus
from fusion.tasks.ionize.energies import AFFINITY, POTENTIAL

_NAMES = {POTENTIAL: "IP", AFFINITY: "EA"}
_UNITS = (("ev", "eV", 4), ("kcal_mol", "kcal/mol", 2))


def rows(ionisation: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield one row per state, then the ionisation potential and the electron affinity with their references."""
    for state in ionisation["states"]:
        yield _state(state)
    for key, name in _NAMES.items():
        if key in ionisation:
            yield from _quantity(name, ionisation[key])


def _state(state: Mapping[str, Any]) -> list[str]:
    energy = state.get("energy_hartree")
    text = "no energy" if energy is None else units.energy(energy, state.get("stderr_hartree"))
    multiplicity = state.get("multiplicity")
    columns = [state["chosen_by"] if multiplicity is None else spin_states.name(multiplicity)]
    if multiplicity is not None and state["name"] != "system":
        columns.append(state["chosen_by"])
    if "reference" in state:
        columns.append(f"reference {units.energy(state['reference']['hartree'])}")
    if state["status"] != "ok":
        columns.append(state["status"].upper().replace("_", " "))
    return [state["label"], text, *columns]


def _quantity(name: str, quantity: Mapping[str, Any]) -> Iterator[list[str]]:
    shown = _UNITS if units.current().is_atomic else ()
    columns = [
        f"{plus_minus(quantity[unit], quantity.get(f'stderr_{unit}'), decimals=decimals)} {symbol}"
        for unit, symbol, decimals in shown
    ]
    spread = quantity.get("std_hartree")
    model = [] if spread is None else [f"± {spread:.2g} Ha model"]
    yield [name, units.energy(quantity["hartree"], quantity.get("stderr_hartree")), *columns, *model]
    reference = quantity.get("reference")
    if reference is not None:
        parts = (quantity.get("stderr_hartree"), reference.get("uncertainty_hartree"))
        errors = [MILLIHARTREE_PER_HARTREE * error for error in parts if error is not None]
        deviation = difference(reference["difference_mhartree"], math.hypot(*errors) if errors else None)
        yield [f"{name} reference", units.energy(reference["hartree"]), reference["source"], deviation]
