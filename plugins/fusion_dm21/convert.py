"""From the checkpoints that DeepMind published to the state of `fusion_dm21.network.DM21`."""

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
    """State of `fusion_dm21.network.DM21` from the one checkpoint in `directory`. Raises InputError."""
    found = sorted(directory.rglob("variables.index"))
    if len(found) != 1:
        raise InputError(f"a model of DM21 has one file variables.index; {directory} has {len(found)}")
    return state(checkpoint.read(found[0].with_suffix("")))


def state(variables: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The published variables under the names and in the layout of torch; InputError where they are another model's."""
    left = dict(variables)
    result: dict[str, Tensor] = {}
    for name, path in _ENDS.items():
        result |= _linear(left, name, _ROOT + path)
    blocks = 0
    while (path := f"{_BLOCK}_{blocks}" if blocks else _BLOCK) + "/linear/w" in left:
        result |= _linear(left, f"blocks.{blocks}.linear", f"{path}/linear")
        result[f"blocks.{blocks}.norm.weight"] = _taken(left, f"{path}/layer_norm/gamma")
        result[f"blocks.{blocks}.norm.bias"] = _taken(left, f"{path}/layer_norm/beta")
        blocks += 1
    if left or not blocks:
        raise InputError(f"not a network of DM21: {blocks} blocks, and besides {', '.join(sorted(left)) or 'nothing'}")
    return result


def _linear(variables: dict[str, np.ndarray], name: str, path: str) -> dict[str, Tensor]:
    weight, bias = _taken(variables, f"{path}/w"), _taken(variables, f"{path}/b")
    return {f"{name}.weight": weight.t().contiguous(), f"{name}.bias": bias}


def _taken(variables: dict[str, np.ndarray], name: str) -> Tensor:
    import torch

    if name not in variables:
        raise InputError(f"not a network of DM21: there is no {name}")
    return torch.from_numpy(variables.pop(name))
