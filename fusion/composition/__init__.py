"""Methods made of methods: sums, differences, and layers of a molecule treated at different levels."""

from fusion.composition.method import SumMethod
from fusion.composition.oniom import Oniom

__all__ = ["Oniom", "SumMethod"]
