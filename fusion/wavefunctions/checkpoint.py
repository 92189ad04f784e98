"""Identity of a run, which must agree with that of a checkpoint."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from fusion.chemistry.system import System


def identity(system: System, ansatz: nn.Module, settings: dict[str, Any]) -> dict[str, Any]:
    """Values that must agree with a checkpoint: system, names and shapes of the parameters, settings of the ansatz."""
    return {
        "formula": system.formula,
        "charge": system.charge,
        "spin": system.spin,
        "positions": np.asarray(system.positions, dtype=float).round(6).tolist(),
        "parameters": {name: list(p.shape) for name, p in ansatz.named_parameters()},
        "settings": settings,
    }
