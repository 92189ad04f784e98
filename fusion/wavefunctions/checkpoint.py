"""Identity of a run, which must agree with that of a checkpoint, and names of parameters in old checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from fusion.chemistry.system import System


def identity(system: System, ansatz: nn.Module, settings: dict[str, Any]) -> dict[str, Any]:
    """Values that must agree with a checkpoint: system, names and shapes of the parameters, settings of the ansatz."""
    cores = {core.symbol: core.as_pyscf() for core in system.cores}
    return {
        **({"ecp": cores} if cores else {}),
        "formula": system.formula,
        "charge": system.charge,
        "spin": system.spin,
        "positions": np.asarray(system.positions, dtype=float).round(6).tolist(),
        "parameters": {name: list(p.shape) for name, p in ansatz.named_parameters()},
        "settings": settings,
    }


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
