"""Geometries with forces that have error bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from fusion.chemistry.system import System
from fusion.errors import CalculationError
from fusion.methods import protocol
from fusion.methods.protocol import Method
from fusion.runs.results import Result
from fusion.tasks.geometry import model_hessian
from fusion.tasks.geometry.structures import largest_force

NEEDS: Final = frozenset({"energy", "forces", "forces_stderr"})

NOISE: Final[float] = 2.0
"""Force in its standard errors below which it is noise."""


@dataclass(frozen=True)
class Point:
    """Result at a geometry, with its forces and their standard errors, each (A, 3), along the motions alone."""

    result: Result
    forces: np.ndarray
    stderr: np.ndarray

    @property
    def raw_stderr(self) -> np.ndarray:
        """Standard errors (A, 3) of the method's forces."""
        return np.asarray(self.result.properties["forces_stderr"], dtype=float)

    @property
    def largest(self) -> float:
        """Largest force on an atom, hartree/bohr."""
        return largest_force(self.forces)

    @property
    def largest_stderr(self) -> float:
        """Standard error of the largest force, along that force."""
        norms = np.linalg.norm(self.forces, axis=1)
        worst = int(norms.argmax())
        if not norms[worst] > 0:
            return largest_force(self.stderr)
        return float(np.linalg.norm(self.forces[worst] / norms[worst] * self.stderr[worst]))

    def above(self, fmax: float) -> np.ndarray:
        """Mask of the atoms whose force is above `fmax` and above its noise."""
        bounds = np.maximum(fmax, NOISE * np.linalg.norm(self.stderr, axis=1))
        return np.asarray(np.linalg.norm(self.forces, axis=1) > bounds)


def visited(method: Method, system: System) -> Point:
    """Calculate a geometry. Raises CalculationError without forces with error bars."""
    (result,) = protocol.calculate(method, [system], NEEDS)
    missing = result.energy is None or not NEEDS - {"energy"} <= set(result.properties)
    if result.status not in ("ok", "not_converged") or missing:
        raise CalculationError(f"{method.name}: {result.message or result.status}")
    point = _projected(result)
    if not np.isfinite([point.forces, point.stderr]).all():
        raise CalculationError(f"{method.name}: the forces or their errors are not finite numbers")
    return point


def _projected(result: Result) -> Point:
    """Point with forces and errors along the motions of a relaxation."""
    basis = model_hessian.motions(result.system)
    projector = basis @ basis.T
    values, errors = (np.asarray(result.properties[name], dtype=float) for name in ("forces", "forces_stderr"))
    stderr = np.sqrt(np.square(projector) @ np.square(errors).ravel())
    return Point(result, (projector @ values.ravel()).reshape(-1, 3), stderr.reshape(-1, 3))
