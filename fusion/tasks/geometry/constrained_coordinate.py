"""Minima with one internal coordinate at a given value and Cartesian coordinates held, by ASE's BFGS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.constraints import FixConstraint
from ase.optimize import BFGS

from fusion.chemistry import constraints, units
from fusion.errors import CalculationError, InputError
from fusion.tasks.geometry.structures import atoms_of, largest_force

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method

_NEWTON_STEPS = 50
_CLOSE = 1e-10  # bohr or radians


class CoordinateAt(FixConstraint):
    """An ASE constraint that holds `primitive`, an internal coordinate of geomeTRIC, at `target` (bohr or radians).

    Only the Cartesian coordinates in `free` (A, 3), bool, move to satisfy it.
    """

    def __init__(self, primitive: Any, target: float, free: np.ndarray) -> None:
        self._primitive, self._target, self._free = primitive, target, free

    def adjust_positions(self, atoms: Atoms, new: np.ndarray) -> None:
        """Move `new` (A, 3), Angstrom, in place along the coordinate's gradient to the target (Newton steps)."""
        for _ in range(_NEWTON_STEPS):
            missing = self._missing(new)
            slope = self._slope(new)
            if abs(missing) < _CLOSE or not slope.any():
                return
            new += missing / np.vdot(slope, slope) * slope * units.ANGSTROM_PER_BOHR

    def adjust_forces(self, atoms: Atoms, forces: np.ndarray) -> None:
        """Remove the component along the coordinate from `forces` (A, 3), in place."""
        slope = self._slope(atoms.positions)
        if slope.any():
            forces -= np.vdot(forces, slope) / np.vdot(slope, slope) * slope

    def _missing(self, positions: np.ndarray) -> float:
        missing = self._target - self._primitive.value(positions * units.BOHR_PER_ANGSTROM)
        return float((missing + np.pi) % (2 * np.pi) - np.pi) if self._primitive.isPeriodic else float(missing)

    def _slope(self, positions: np.ndarray) -> np.ndarray:
        return np.asarray(self._primitive.derivative(positions * units.BOHR_PER_ANGSTROM)) * self._free


def minimum(
    method: Method,
    system: System,
    primitive: Any,
    target: float,
    fmax: float,
    steps: int,
    watch: Callable[[int, float, float], None] | None,
) -> tuple[System, bool, int, str | None]:
    """Minimise with `primitive` held at `target` until the largest of the other forces is below `fmax` (hartree/bohr).

    Returns the last system, true if converged, the number of steps, and the reason of a failure.
    """
    atoms = atoms_of(system, method)
    free = constraints.free(system)
    atoms.set_constraint([*constraints.of_ase(system), CoordinateAt(primitive, target, free)])
    atoms.set_positions(atoms.positions.copy())  # applies the constraint
    optimiser, converged = BFGS(atoms, logfile=None), False
    try:
        for below_fmax in optimiser.irun(fmax=fmax * units.EV_ANGSTROM_PER_HARTREE_BOHR, steps=steps):
            converged = bool(below_fmax)
            if watch is not None:
                force = largest_force(atoms.get_forces()) / units.EV_ANGSTROM_PER_HARTREE_BOHR
                watch(optimiser.nsteps, atoms.get_potential_energy() * units.HARTREE_PER_EV, force)
    except (CalculationError, InputError, np.linalg.LinAlgError) as error:
        return system, False, optimiser.nsteps, str(error)
    return atoms.calc.system(atoms), converged, optimiser.nsteps, None
