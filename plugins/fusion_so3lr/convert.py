"""Conversion of the published SO3LR, a module that torch.save has pickled, to tensors."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from fusion.errors import CalculationError
from fusion.files import bounds
from fusion.parallel.processes import GLOBAL_STATE
from fusion.zoo import Card
from fusion_so3lr.potential import SO3LRPotential


def convert(directory: Path, card: Card) -> dict[str, Tensor]:
    """Return the tensors of the published network under the names of `SO3LRPotential`.

    Raises InputError without so3krates-torch, and CalculationError for a file that holds another network.
    """
    path = directory / card.files[0].path
    network = SO3LRPotential(**card.model.arguments).network
    # A pickle can run code, and a card of a stranger can name this converter together with a file of its own. So
    # weights_only stays True: it runs no code, and makes objects of the classes that the network consists of alone.
    classes = {type(module) for module in network.modules()}
    with GLOBAL_STATE, torch.serialization.safe_globals(list(classes)):
        try:
            bounds.check_torch(path)
            published = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a wrong file can raise anything
            raise CalculationError(f"{path.name} holds another network than SO3LR, and is not read") from error
    if not isinstance(published, nn.Module):
        raise CalculationError(f"{path.name} holds no network")
    return {f"network.{name}": tensor for name, tensor in published.state_dict().items()}
