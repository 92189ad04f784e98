"""Relaxation of many structures together: each with L-BFGS of its own, the forces of all in one calculation per step.

The step of every structure is -H g, where the inverse Hessian H comes from the last steps s and changes of the gradient
y by the two-loop recursion (Nocedal 1980, Math. Comput. 35, 773), from H_0 = 1 / `CURVATURE` on, and is shortened until
no atom moves by more than `LONGEST`. These are the rules of ASE's LBFGS with its constants, but steps along which the
curvature was negative are left out of H, so that it stays positive.

| symbol | variable |
|---|---|
| s_k, y_k | `moves`, `changes`, (k, B, 3A) |
| 1 / y_k . s_k | `inverses`, (k, B), 0 where the curvature is not positive |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from fusion.chemistry import constraints, units
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.methods import protocol
from fusion.methods.protocol import Method
from fusion.runs.results import Result
from fusion.tasks.geometry.structures import without_torque
from fusion.tasks.relax.relaxation import LBFGS, Relaxed, Settings, short
from fusion.tasks.relax.report import details_of, uphill

CURVATURE: Final = 70.0 / units.EV_ANGSTROM2_PER_HARTREE_BOHR2
"""Curvature of the first steps, hartree/bohr^2."""

LONGEST: Final = 0.2 * units.BOHR_PER_ANGSTROM
"""Longest displacement of an atom in a step, bohr."""

MEMORY: Final = 30
"""Steps that the inverse Hessian is made of."""

_OPTIMISERS = (None, LBFGS)


@dataclass
class _Path:
    """One structure on its way: the results of its steps, its energies and largest forces so far."""

    start: System
    result: Result
    energies: list[float] = field(default_factory=list)
    forces: list[float] = field(default_factory=list)
    failure: str | None = None

    @property
    def gradient(self) -> np.ndarray:
        """(A, 3), zero for held coordinates; a free molecule is kept from rotating."""
        system, gradient = self.result.system, -np.asarray(self.result.properties["forces"], dtype=float)
        if system.fixed is not None:
            return np.where(system.fixed, 0.0, gradient)
        return gradient if any(system.pbc) else without_torque(gradient, system.positions)

    def take(self, result: Result) -> None:
        """Go on to `result`, unless it failed."""
        if result.status != "ok" or result.energy is None:
            self.failure = result.message or result.status
            return
        self.result = result
        self.energies.append(result.energy)
        self.forces.append(float(np.linalg.norm(self.gradient, axis=1).max(initial=0.0)))


class Relaxations:
    """`Calculation` of relaxed structures, with the forces threshold and number of steps of `settings`."""

    def __init__(self, settings: Settings, purpose: str) -> None:
        self.settings, self._purpose = settings, purpose

    def check(self, method: Method, systems: Sequence[System]) -> None:
        """Raise InputError for structures that cannot be relaxed, or for settings that many structures do not have."""
        if self.settings.optimiser.get("_target_") not in _OPTIMISERS or self.settings.cell:
            what = (
                "task.cell=true"
                if self.settings.cell
                else f"task.optimiser._target_={self.settings.optimiser['_target_']}"
            )
            raise InputError(f"{what} is for one structure; many are relaxed by L-BFGS, in the cells that they have")
        protocol.require(method, self.settings.needs, self._purpose, systems)
        for system in systems:
            constraints.check_free(system, "relax")

    def calculate(self, method: Method, systems: Sequence[System]) -> list[Result]:
        """Return the results of the last geometries."""
        return [self._outcome(relaxed) for relaxed in relax(method, systems, self.settings)]

    def _outcome(self, relaxed: Relaxed) -> Result:
        details = details_of(relaxed)
        columns = {
            "steps": relaxed.steps,
            "initial_energy_hartree": f"{relaxed.energies[0]:.10f}",
            "displacement_rmsd_angstrom": f"{details['displacement_rmsd_angstrom']:.4f}",
        }
        result = replace(relaxed.result, details={"columns": columns})
        if relaxed.failure is not None:
            result.status, result.message = "failed", f"step {relaxed.steps + 1}: {relaxed.failure}"
        elif not relaxed.converged:
            force, limit = short(relaxed.largest_forces[-1]), short(self.settings.fmax)
            result.status = "not_converged"
            reason = f"largest force {force} Ha/bohr after {relaxed.steps} steps, above {limit} Ha/bohr"
            result.message = uphill(relaxed) if relaxed.climbed else reason
        return result


def relax(
    method: Method, systems: Sequence[System], settings: Settings, show: Callable[[int], None] = lambda done: None
) -> list[Relaxed]:
    """Relax `systems` together; those that have converged, or have failed, wait for the others without cost.

    `show` is called with the number of those after every step. Raises CalculationError if a first geometry fails.
    """
    paths = [_Path(system, Result(system)) for system in systems]
    _advance(method, paths, [system.positions for system in systems])
    for path in paths:
        if path.failure is not None:
            path.result = Result(path.start, "failed", message=path.failure)
    moving = [path for path in paths if path.failure is None and path.forces[-1] > settings.fmax]
    steps = _Steps([len(path.start.symbols) for path in moving])
    for _ in range(settings.steps):
        if not moving:
            break
        displaced = steps.next([path.gradient for path in moving])
        _advance(method, moving, [path.result.system.positions + d for path, d in zip(moving, displaced, strict=True)])
        left = [path.failure is None and path.forces[-1] > settings.fmax for path in moving]
        steps.keep(left)
        moving = [path for path, stays in zip(moving, left, strict=True) if stays]
        show(len(paths) - len(moving))
    return [_relaxed(path, settings) for path in paths]


def _advance(method: Method, paths: Sequence[_Path], positions: Sequence[np.ndarray]) -> None:
    """Calculate the structures at new positions, (A, 3) each, in one call."""
    systems = [path.result.system.moved(place) for path, place in zip(paths, positions, strict=True)]
    for path, result in zip(paths, protocol.calculate(method, systems, {"energy", "forces"}), strict=True):
        path.take(result)


def _relaxed(path: _Path, settings: Settings) -> Relaxed:
    energies, forces = path.energies or [float("nan")], path.forces or [float("nan")]
    return Relaxed(path.start, path.result, forces[-1] <= settings.fmax, energies, forces, settings, path.failure)


class _Steps:
    """L-BFGS steps of B structures with numbers of atoms `sizes`, padded to the largest."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = list(sizes)
        shape = (0, len(sizes), 3 * max(sizes, default=0))
        self._moves, self._changes, self._inverses = np.zeros(shape), np.zeros(shape), np.zeros(shape[:2])
        self._gradient: np.ndarray | None = None
        self._move = np.zeros(shape[1:])

    def next(self, gradients: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Displacements (A, 3) from the gradients (A, 3) at the present positions."""
        gradient = np.zeros_like(self._move)
        for row, values in zip(gradient, gradients, strict=True):
            row[: values.size] = values.ravel()
        if self._gradient is not None:
            self._remember(self._move, gradient - self._gradient)
        self._gradient, self._move = gradient, _shortened(-self._product(gradient))
        return [row[: 3 * size].reshape(-1, 3) for row, size in zip(self._move, self._sizes, strict=True)]

    def keep(self, left: Sequence[bool]) -> None:
        """Go on with some of the structures."""
        chosen = np.flatnonzero(left)
        self._sizes = [self._sizes[index] for index in chosen]
        width = 3 * max(self._sizes, default=0)
        self._moves, self._changes = (each[:, chosen, :width] for each in (self._moves, self._changes))
        self._inverses, self._move = self._inverses[:, chosen], self._move[chosen, :width]
        if self._gradient is not None:
            self._gradient = self._gradient[chosen, :width]

    def _remember(self, move: np.ndarray, change: np.ndarray) -> None:
        curvature = np.einsum("bi,bi->b", move, change)
        inverse = np.divide(1.0, curvature, out=np.zeros_like(curvature), where=curvature > 0)
        self._moves = np.concatenate((self._moves, move[None]))[-MEMORY:]
        self._changes = np.concatenate((self._changes, change[None]))[-MEMORY:]
        self._inverses = np.concatenate((self._inverses, inverse[None]))[-MEMORY:]

    def _product(self, gradient: np.ndarray) -> np.ndarray:
        """H g (B, 3A)."""
        result, shares = gradient.copy(), []
        history = list(zip(self._moves, self._changes, self._inverses, strict=True))
        for move, change, inverse in reversed(history):
            share = inverse * np.einsum("bi,bi->b", move, result)
            result -= share[:, None] * change
            shares.append(share)
        result /= CURVATURE
        for (move, change, inverse), share in zip(history, reversed(shares), strict=True):
            back = inverse * np.einsum("bi,bi->b", change, result)
            result += (share - back)[:, None] * move
        return result


def _shortened(moves: np.ndarray) -> np.ndarray:
    """Moves (B, 3A), each shortened as a whole until no atom moves by more than `LONGEST`."""
    lengths = np.linalg.norm(moves.reshape(len(moves), -1, 3), axis=2).max(axis=1, initial=0.0)
    factors: Any = np.minimum(1.0, LONGEST / np.maximum(lengths, 1e-30))
    return np.asarray(moves * factors[:, None])
