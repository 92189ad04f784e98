"""Composite methods: sums and differences of methods, and layers of a molecule at different levels."""

from fusion.methods.sums.method import SumMethod
from fusion.methods.sums.oniom import Oniom

__all__ = ["Oniom", "SumMethod"]
