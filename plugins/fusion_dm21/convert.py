"""Convert the checkpoints that DeepMind published to the state of `fusion_dm21.network.DM21`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fusion.errors import InputError
from fusion_dm21 import checkpoint

if TYPE_CHECKING:
    from torch import Tensor

_ROOT = "hub_wrapper/local_functional_v2/"
_BLOCK = _ROOT + "MLP/ResidualBlock"
_ENDS = {"input": "SquashUnprocessedData/linear", "output": "OutputLayer/linear"}


def convert(directory: Path, card: object = None) -> dict[str, Tensor]:
    """State of `fusion_dm21.network.DM21` from the checkpoint in `directory`. Raises InputError unless there is one."""
    index_files = sorted(directory.rglob("variables.index"))
    if len(index_files) != 1:
        raise InputError(f"a model of DM21 has one file variables.index; {directory} has {len(index_files)}")
    return state(checkpoint.read(index_files[0].with_suffix("")))


def state(variables: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Convert published variables to the names and layout of torch. Raises InputError for those of another model."""
    remaining = dict(variables)
    result: dict[str, Tensor] = {}
    for name, path in _ENDS.items():
        result |= _linear(remaining, name, _ROOT + path)
    blocks = 0
    while (path := f"{_BLOCK}_{blocks}" if blocks else _BLOCK) + "/linear/w" in remaining:
        result |= _linear(remaining, f"blocks.{blocks}.linear", f"{path}/linear")
        result[f"blocks.{blocks}.norm.weight"] = _taken(remaining, f"{path}/layer_norm/gamma")
        result[f"blocks.{blocks}.norm.bias"] = _taken(remaining, f"{path}/layer_norm/beta")
        blocks += 1
    if remaining or not blocks:
        unexpected = ", ".join(sorted(remaining)) or "nothing"
        raise InputError(f"not a network of DM21: it has {blocks} blocks, and besides {unexpected}")
    return result


def _linear(variables: dict[str, np.ndarray], name: str, path: str) -> dict[str, Tensor]:
    weight, bias = _taken(variables, f"{path}/w"), _taken(variables, f"{path}/b")
    return {f"{name}.weight": weight.t().contiguous(), f"{name}.bias": bias}


def _taken(variables: dict[str, np.ndarray], name: str) -> Tensor:
    import torch

    if name not in variables:
        raise InputError(f"not a network of DM21: {name} is missing")
    return torch.from_numpy(variables.pop(name))
