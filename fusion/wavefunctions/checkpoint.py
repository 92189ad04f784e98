"""Reading a checkpoint file without trusting it, and what it must agree with."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fusion import bounds
from fusion.errors import InputError
from fusion.system import System


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint: tensors and plain containers only, on the CPU.

    Raises:
        InputError: not a checkpoint, cut short, or holding anything else.
    """
    try:
        if not zipfile.is_zipfile(bounds.regular(path)):
            raise InputError(f"{path} is not a checkpoint, or only a part of one")
        bounds.check_torch(path)
        with zipfile.ZipFile(path) as archive:
            if (damaged := archive.testzip()) is not None:  # torch does not look at the check sums
                raise InputError(f"{path} is damaged ({damaged})")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is not a checkpoint of fusion: it holds Python objects, which could run code, and is not loaded"
        ) from error
    except Exception as error:  # torch raises a dozen kinds for a file that is not one of its own
        raise InputError(f"{path} is not a readable checkpoint: {bounds.reason(error)}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a checkpoint")
    return content


def identity(system: System, ansatz: nn.Module, settings: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint must agree with: the system, the names and shapes of the parameters, the ansatz' settings."""
    return {
        "formula": system.formula,
        "charge": system.charge,
        "spin": system.spin,
        "positions": np.asarray(system.positions, dtype=float).round(6).tolist(),
        "parameters": {name: list(p.shape) for name, p in ansatz.named_parameters()},
        "settings": settings,
    }
