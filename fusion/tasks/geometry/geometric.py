"""geomeTRIC, driven by a fusion method: constrained minima, transition states and reaction paths.

geomeTRIC (Wang and Song, J. Chem. Phys. 144, 214108 (2016)) optimises in translation-rotation internal coordinates. If
coordinates are held, it optimises in the remaining Cartesian coordinates. Its long output goes to a file.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from geometric import internal, nifty
from geometric.engine import Engine
from geometric.errors import Error, GeomOptNotConvergedError
from geometric.molecule import Molecule
from geometric.optimize import Optimizer
from geometric.params import OptParams

from fusion.chemistry import constraints, units
from fusion.errors import CalculationError, InputError
from fusion.methods import protocol
from fusion.tasks.geometry.internal_coordinates import Angle, Bond, InternalCoordinate
from fusion.tasks.geometry.normal_modes import normal_modes

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method

LOG = "geometric.log"
Watch = Callable[[int, float, float], None]
"""Called after each calculation with their number, the energy (hartree) and the largest force (hartree/bohr)."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_PATH_STEP = 0.07  # Angstrom, root mean square, of a step along a reaction path
_ALWAYS_MET = 1e3  # a criterion that is always met: only the largest force decides, as in every task


@dataclass(frozen=True)
class OptimisationEnd:
    """End of an optimisation: last geometry, number of steps, and last trust radius of geomeTRIC (Angstrom, rms).

    `failure`: reason why it stopped, None where it converged or reached the limit of steps.
    """

    system: System
    converged: bool
    steps: int
    failure: str | None
    trust: float


class MethodEngine(Engine):
    """Energies and gradients from a method, for geomeTRIC. Held coordinates stay in place and have no gradient."""

    def __init__(self, method: Method, system: System, molecule: Molecule, watch: Watch | None = None) -> None:
        super().__init__(molecule)
        self._method, self._system, self._watch, self.calls = method, system, watch, 0

    def calc_new(self, coords: np.ndarray, dirname: str) -> dict[str, Any]:
        """Energy in hartree and gradient (3A,) in hartree/bohr. Raises CalculationError."""
        from fusion.tasks.geometry.structures import largest_force

        system = self._system.moved(constraints.placed(self._system, np.asarray(coords).reshape(-1, 3)))
        (result,) = protocol.calculate(self._method, [system], {"energy", "forces"})
        if result.status != "ok" or result.energy is None:
            raise CalculationError(f"{self._method.name}: {result.message or result.status}")
        forces = constraints.free_part(system, np.asarray(result.properties["forces"]))
        if self._watch is not None:
            self._watch(self.calls, result.energy, largest_force(forces))
        self.calls += 1
        return {"energy": result.energy, "gradient": -forces.ravel()}


class _Optimizer(Optimizer):
    """geomeTRIC's optimiser without files, with the masses of the system."""

    system: System

    def frequency_analysis(self, hessian: np.ndarray, suffix: str, afterOpt: bool) -> None:
        """Set the modes of a Hessian (3A, 3A); a path starts along the lowest.

        All but the lowest are taken as real. The task has already checked that only one is imaginary; beside held
        atoms free rotations may look imaginary by noise.
        """
        positions, system = self.X.reshape(-1, 3), self.system
        modes = normal_modes(hessian, positions, system.nuclear_masses, any(system.pbc), system.fixed)
        self.TSWavenum = np.concatenate([modes.frequencies[:1], np.abs(modes.frequencies[1:])])
        self.TSNormal_modes_x = modes.displacements.reshape(len(modes.frequencies), -1)

    def checkCoordinateSystem(self, recover: bool = False, cartesian: bool = False) -> bool | None:
        """Rebuild internal coordinates that broke down, which Cartesian ones never do; return true if they changed."""
        if isinstance(self.IC, _FreeCoordinates):
            return False
        changed: bool | None = super().checkCoordinateSystem(recover, cartesian)
        self.IC.mass = np.repeat(self.system.nuclear_masses, 3)
        return changed


class _FreeCoordinates(internal.CartesianCoordinates):
    """Cartesian coordinates that are not held."""

    def __init__(self, molecule: Molecule, free: np.ndarray) -> None:
        super().__init__(molecule)
        self.Internals: list[Any] = [self.Internals[index] for index in np.flatnonzero(free)]

    def guess_hessian(self, xyz: np.ndarray) -> np.ndarray:
        return 0.5 * np.eye(len(self.Internals))


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Append the output of geomeTRIC to the file `path` while the block runs; it goes nowhere else."""
    logger = nifty.logger
    handler = nifty.RawFileHandler(path, mode="a", encoding="utf-8")
    handler.setFormatter(_Plain())
    before = logger.propagate, list(logger.handlers)
    logger.propagate, logger.handlers[:] = False, [handler]
    try:
        yield
    finally:
        logger.propagate, logger.handlers[:] = before
        handler.close()


def constrained_minimum(
    method: Method,
    system: System,
    coordinate: InternalCoordinate,
    value: float,
    fmax: float,
    steps: int,
    watch: Watch | None = None,
) -> OptimisationEnd:
    """Relax with `coordinate` held at `value` (Angstrom or degrees), and the coordinates that the system holds, until
    the largest of the remaining forces is below `fmax` (hartree/bohr)."""
    held, target = _constraint(coordinate, value)
    if system.fixed is not None:
        from fusion.tasks.geometry import constrained_coordinate

        return OptimisationEnd(
            *constrained_coordinate.minimum(method, system, held, target, fmax, steps, watch), trust=0.0
        )
    molecule = molecule_of(system)
    coordinates = internal.DelocalizedInternalCoordinates(molecule, build=True, constraints=[held], cvals=[target])
    settings = _force_alone(fmax, steps) | {"enforce": 0.1, "convergence_cmax": 1e-3}
    return _optimised(method, system, molecule, coordinates, settings, watch=watch)


def saddle(
    method: Method,
    system: System,
    hessian: np.ndarray,
    fmax: float,
    steps: int,
    trust: float | None = None,
    watch: Watch | None = None,
) -> OptimisationEnd:
    """Follow the lowest eigenvector of `hessian` (3A, 3A; hartree/bohr^2, exact at `system`) uphill and all others
    downhill until the largest force is below `fmax` (restricted-step partitioned rational function optimisation)."""
    molecule = molecule_of(system)
    settings = _force_alone(fmax, steps) | {"transition": True, "hessian": "never"}
    if trust is not None:
        settings["trust"] = trust
    return _optimised(method, system, molecule, _coordinates(molecule, system), settings, hessian, watch)


def reaction_path(
    method: Method,
    system: System,
    hessian: np.ndarray,
    direction: str,
    steps: int,
    watch: Watch | None = None,
) -> tuple[OptimisationEnd, list[tuple[np.ndarray, float]]]:
    """Follow steepest descent in mass-weighted coordinates from a transition state, `direction` forward or backward.

    Gonzalez and Schlegel, J. Phys. Chem. 94, 5523 (1990). Returns the end, and the points (A, 3) in bohr with their
    energies in hartree.
    """
    molecule = molecule_of(system)
    settings = {"irc": True, "irc_direction": direction, "maxiter": steps, "hessian": "never", "trust": _PATH_STEP}
    points: list[tuple[np.ndarray, float]] = []
    # Fragments that are not connected would add free rotations, along which a step of the path is not defined.
    coordinates = _coordinates(molecule, system, connect=True)
    ended = _optimised(method, system, molecule, coordinates, settings, hessian, watch, points)
    return ended, points


def _optimised(
    method: Method,
    system: System,
    molecule: Molecule,
    coordinates: internal.InternalCoordinates,
    settings: dict[str, Any],
    hessian: np.ndarray | None = None,
    watch: Watch | None = None,
    points: list[tuple[np.ndarray, float]] | None = None,
) -> OptimisationEnd:
    """Run geomeTRIC's optimiser; append its path to `points`."""
    keep_net_force = (
        {"subfrctor": 0} if system.fixed is not None else {}
    )  # with held atoms, net forces and torques are physical
    parameters = OptParams(**settings, **keep_net_force)
    if hessian is not None:
        parameters.hess_data = np.array(hessian)
    engine = MethodEngine(method, system, molecule, watch)
    coordinates.mass = np.repeat(system.nuclear_masses, 3)
    optimizer = _Optimizer(system.positions.flatten(), molecule, coordinates, engine, ".", parameters)
    optimizer.system = system
    converged, failure = False, None
    try:
        optimizer.optimizeGeometry()
        converged = True
    except GeomOptNotConvergedError:
        pass
    except (CalculationError, InputError) as error:
        failure = str(error)
    except (Error, RuntimeError, ValueError, np.linalg.LinAlgError) as error:  # internal coordinates broke down
        failure = f"geomeTRIC cannot continue ({' '.join(str(error).split()) or type(error).__name__})"
    if points is not None:
        raw_points = zip(optimizer.progress.xyzs, optimizer.progress.qm_energies, strict=True)
        path = ((np.asarray(xyz) / nifty.bohr2ang, float(energy)) for xyz, energy in raw_points)
        points += [(constraints.placed(system, positions), energy) for positions, energy in path]
    last = constraints.placed(system, np.asarray(optimizer.X).reshape(-1, 3))
    end = system.moved(last) if np.isfinite(last).all() else system
    return OptimisationEnd(end, converged, optimizer.Iteration, failure, float(optimizer.trust))


def _force_alone(fmax: float, steps: int) -> dict[str, Any]:
    """Settings that make the largest force the only criterion."""
    met = dict.fromkeys(("convergence_energy", "convergence_drms", "convergence_dmax"), _ALWAYS_MET)
    return met | {"convergence_gmax": fmax, "convergence_grms": fmax, "maxiter": steps}


def molecule_of(system: System) -> Molecule:
    """Return geomeTRIC's molecule with its bonds."""
    molecule = Molecule()
    molecule.elem = list(system.symbols)
    molecule.xyzs = [system.positions * nifty.bohr2ang]
    molecule.build_topology()
    return molecule


def _coordinates(molecule: Molecule, system: System, connect: bool = False) -> internal.InternalCoordinates:
    """Internal coordinates for molecules; Cartesian ones in a cell, where bonds cross the border; the free Cartesian
    ones if some are held."""
    if system.fixed is not None:
        return _FreeCoordinates(molecule, constraints.free(system).ravel())
    if any(system.pbc):
        return internal.CartesianCoordinates(molecule)
    return internal.DelocalizedInternalCoordinates(molecule, build=True, connect=connect)


def _constraint(coordinate: InternalCoordinate, value: float) -> tuple[Any, float]:
    """geomeTRIC's coordinate, and its value in bohr or radians."""
    if isinstance(coordinate, Bond):
        first, second = sorted(coordinate.atoms)
        return internal.Distance(first, second), value * units.BOHR_PER_ANGSTROM
    if isinstance(coordinate, Angle):
        first, apex, last = coordinate.atoms
        return internal.Angle(min(first, last), apex, max(first, last)), float(np.radians(value))
    atoms = coordinate.atoms if coordinate.atoms[1] < coordinate.atoms[2] else coordinate.atoms[::-1]
    return internal.Dihedral(*atoms), float(np.radians((value + 180.0) % 360.0 - 180.0))


class _Plain(logging.Formatter):
    """Formats text without terminal colours."""

    def format(self, record: logging.LogRecord) -> str:
        return _COLOURS.sub("", super().format(record))
