"""Identity of a run, which must agree with that of a checkpoint, and names of parameters in old checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.zoo.card import without_null


def identity(system: System, ansatz: nn.Module, settings: dict[str, Any]) -> dict[str, Any]:
    """Values that must agree with a checkpoint: system, names and shapes of the parameters, settings of the ansatz."""
    cores = {core.symbol: core.as_pyscf() for core in system.cores}
    return {
        **({"ecp": cores} if cores else {}),
        **({} if system.cell is None else {"cell": np.asarray(system.cell, dtype=float).round(6).tolist()}),
        "formula": system.formula,
        "symbols": list(system.symbols),
        "charge": system.charge,
        "spin": system.spin,
        "positions": np.asarray(system.positions, dtype=float).round(6).tolist(),
        "parameters": {name: list(p.shape) for name, p in ansatz.named_parameters()},
        "settings": settings,
    }


def refuse_other(stored: dict[str, Any], expected: dict[str, Any], label: str) -> None:
    """Raise InputError unless the identity `stored` in `label` is of the same molecule and network as `expected`.

    The geometry may differ. Checkpoints of earlier versions do not state the order of their atoms.
    """
    for key in ("formula", "charge", "spin"):
        if stored[key] != expected[key]:
            advice = "; geometry transfer between different molecules is not possible" if key == "formula" else ""
            raise InputError(
                f"{label} belongs to another system: {key} is {stored[key]} there, {expected[key]} here{advice}"
            )
    if stored.get("symbols", expected["symbols"]) != expected["symbols"]:
        order, wanted = " ".join(stored["symbols"]), " ".join(expected["symbols"])
        raise InputError(f"{label} belongs to another system: its atoms are {order}, in this order, and {wanted} here")
    if stored.get("ecp") != expected.get("ecp"):
        raise InputError(f"{label} belongs to another system: its system.ecp differs")
    if stored.get("cell") != expected.get("cell"):
        raise InputError(f"{label} belongs to another system: its cell, or the density of its electron gas, differs")
    for part in ("settings", "parameters"):
        there, here = without_null(stored[part]), without_null(expected[part])
        if there != here:
            raise InputError(f"{label} belongs to another network: {_difference(there, here)}")


def _difference(stored: dict[str, Any], expected: dict[str, Any]) -> str:
    """First setting or shape that differs, in words."""
    for name in (*expected, *stored):
        old_value, new_value = stored.get(name, "absent"), expected.get(name, "absent")
        if isinstance(old_value, dict) and isinstance(new_value, dict) and old_value != new_value:
            return _difference(old_value, new_value)
        if old_value != new_value:
            return f"{name} is {old_value} there, {new_value} here"
    return "its parameters have another order"


def series_of(state: dict[str, Any]) -> dict[str, list[Any]]:
    """Series of the evaluation in a checkpoint; earlier versions kept each under a name of its own."""
    if "series" in state:
        return dict(state["series"])
    return {"variance": state["variances"], "acceptance": state["acceptances"], "spin_squared": state["spins"]}


def with_current_names(state: Any, ansatz: nn.Module) -> Any:
    """Return a checkpoint, or a part of it, with the ansatz's present names of the parameters.

    Checkpoints of earlier versions name the parameters of a trunk without "trunk.".
    """
    renamed = {name.removeprefix("trunk."): name for name, _ in ansatz.named_parameters() if name.startswith("trunk.")}
    return _renamed(state, renamed)


def _renamed(state: Any, renamed: dict[str, str]) -> Any:
    if isinstance(state, dict):
        return {_current(key, renamed): _renamed(value, renamed) for key, value in state.items()}
    if isinstance(state, list):
        return [_renamed(_current(value, renamed), renamed) for value in state]
    return state


def _current(key: Any, renamed: dict[str, str]) -> Any:
    """Present name of a parameter, also behind the name of its module or before that of a factor of its curvature."""
    if not isinstance(key, str):
        return key
    before, name = ("ansatz.", key.removeprefix("ansatz.")) if key.startswith("ansatz.") else ("", key)
    for old, new in renamed.items():
        if name == old or name.startswith(f"{old}."):
            return before + new + name.removeprefix(old)
    return key
