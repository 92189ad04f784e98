"""Kinetic and potential energy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.wavefunctions.estimators.protocol import Estimates, with_stderr
from fusion.wavefunctions.hamiltonians import LocalEnergy, Point
from fusion.wavefunctions.statistics import blocked


class Virial(nn.Module):
    """<T>, <V> and -<V>/<T>; the ratio is 2 for exact atoms and molecules at equilibrium.

    Core potentials are not homogeneous, and a cell exerts a pressure: the ratio has no meaning with them and is left
    out.
    """

    name, every = "virial", 1
    measures: tuple[str, ...] = ("kinetic", "potential")

    def __init__(self, system: System) -> None:
        super().__init__()
        self.has_ratio = not system.cores and system.cell is None

    def forward(self, point: Point, local: LocalEnergy) -> Mapping[str, Tensor]:
        """Local kinetic and potential energies (B,), hartree."""
        kinetic = local.terms["kinetic"]
        return {"kinetic": kinetic, "potential": local.total - kinetic}

    def finish(self, series: Mapping[str, np.ndarray]) -> Estimates:
        """Means and their ratio with errors."""
        kinetics, potentials = series["kinetic"], series["potential"]
        kinetic, potential = blocked(kinetics), blocked(potentials)
        details = {"kinetic_hartree": with_stderr(*kinetic), "potential_hartree": with_stderr(*potential)}
        if self.has_ratio:
            ratio = -potential.value / kinetic.value
            # The error of a ratio is that of its linearised series.
            error = blocked((-potentials - ratio * kinetics) / kinetic.value).stderr
            details["virial_ratio"] = with_stderr(ratio, error)
        return Estimates(details=details)
