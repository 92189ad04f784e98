"""The zoo: published models by name, downloaded once, verified and cached. Importing it does not import torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusion.zoo.card import Card as Card
    from fusion.zoo.registry import cards as cards
    from fusion.zoo.registry import find as find
    from fusion.zoo.registry import find_for as find_for
    from fusion.zoo.store import load as load
    from fusion.zoo.store import place as place
    from fusion.zoo.store import pull as pull
    from fusion.zoo.store import pulled as pulled
    from fusion.zoo.store import state as state
    from fusion.zoo.tensors import digest as digest

# Public name -> its module, imported when a name is used: fusion doctor needs the place of the cache alone.
_PUBLIC = {
    "Card": "card",
    **dict.fromkeys(("cards", "find", "find_for"), "registry"),
    **dict.fromkeys(("load", "place", "pull", "pulled", "state"), "store"),
    "digest": "tensors",
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fusion.zoo' has no attribute {name!r}")
    return getattr(import_module(f"fusion.zoo.{_PUBLIC[name]}"), name)
