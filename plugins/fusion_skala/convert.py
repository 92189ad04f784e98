"""Convert the published parameters of Skala, a NumPy archive, to the state of `fusion_skala.network.Skala`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from fusion.errors import InputError
from fusion.files import bounds

if TYPE_CHECKING:
    from torch import Tensor

    from fusion.zoo import Card

DEGREES: Final = range(4)
LAYERS: Final = {
    **{f"input_model.{layer}": f"input.{layer}" for layer in (0, 2)},
    "non_local_model.pre_down_layer.0": "messages.before.0",
    "non_local_model.post_up_layer.0": "messages.after.0",
    **{f"output_model.{layer}": f"output.{layer}" for layer in (0, 2, 4, 6)},
}
"""Published layer -> layer of `Skala`."""


def convert(directory: Path, card: Card) -> dict[str, Tensor]:
    """Read the tensors of the first of the card's files. Raises InputError for the parameters of another network."""
    path = directory / card.files[0].path
    try:
        published = bounds.npz(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path.name} is not an archive of Skala's parameters: {error}") from error
    return state(published)


def state(published: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Convert published arrays to the names and layout of `Skala`. Raises InputError for those of another model."""
    import torch

    remaining = {name: array for name, array in published.items() if ".w3j_" not in name}
    result: dict[str, Tensor] = {}
    for theirs, ours in LAYERS.items():
        for kind in ("weight", "bias"):
            result[f"{ours}.{kind}"] = torch.from_numpy(_taken(remaining, f"{theirs}.{kind}"))
    down = [_taken(remaining, f"non_local_model.tp_down.weight_0_{degree}_{degree}")[:, 0] for degree in DEGREES]
    up = [_taken(remaining, f"non_local_model.tp_up.weight_{degree}_{degree}_0")[:, 0] for degree in DEGREES]
    result |= {"messages.down": torch.from_numpy(np.stack(down)), "messages.up": torch.from_numpy(np.stack(up))}
    if remaining:
        raise InputError(f"not a network of Skala-1.0: it also has {', '.join(sorted(remaining))}")
    return result


def _taken(arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    if name not in arrays:
        raise InputError(f"not a network of Skala-1.0: {name} is missing")
    return np.ascontiguousarray(arrays.pop(name))
