"""Composite methods: sums and differences of methods, and layers of a molecule at different levels."""

from fusion.composition.method import SumMethod
from fusion.composition.oniom import Oniom

__all__ = ["Oniom", "SumMethod"]
