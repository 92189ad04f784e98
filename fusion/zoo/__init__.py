"""The zoo: published models by name, downloaded once, verified and cached. Importing it does not import torch."""

from fusion.zoo.card import Card
from fusion.zoo.registry import cards, find, find_for
from fusion.zoo.store import load, place, pull, pulled, state
from fusion.zoo.tensors import digest

__all__ = ["Card", "cards", "digest", "find", "find_for", "load", "place", "pull", "pulled", "state"]
