"""Relaxation of a structure with one of ASE's optimisers, for all tasks that need a minimum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.chemistry import units
from fusion.config.checks import check_whole, is_number
from fusion.errors import CalculationError, InputError
from fusion.runs.results import Result

if TYPE_CHECKING:
    from ase import Atoms

    from fusion.chemistry.system import System
    from fusion.methods.recorded import Journal

TRAJECTORY = "relax.extxyz"
STRUCTURE = "relaxed.xyz"
PICTURE = "relaxation.png"
_GPA_PER_HARTREE_BOHR3 = units.GPA_PER_HARTREE_BOHR3
_EV_ANGSTROM3_PER_GPA = units.EV_ANGSTROM3_PER_HARTREE_BOHR3 / _GPA_PER_HARTREE_BOHR3

CLIMBED = 1e-3
"""Rise of the energy (hartree) from start to end that noise of float32 does not explain."""

SMALL = 200
"""Most atoms that relax by BFGS unless an optimiser is named, larger systems by L-BFGS.

BFGS diagonalises its Hessian, which is little work for so few atoms, and steps downhill along negative curvature too.
L-BFGS steps uphill there, which pulls stretched bonds apart.
"""

BFGS, LBFGS = "ase.optimize.BFGS", "ase.optimize.LBFGS"


@dataclass(frozen=True)
class Settings:
    """Settings of a relaxation: force threshold in hartree/bohr, pressure in GPa. Held atoms belong to the system.

    `optimiser` is a config: `_target_`, an ASE optimiser (None: see `SMALL`), and its keywords.
    """

    optimiser: Mapping[str, Any]
    fmax: float
    steps: int
    cell: bool = False
    pressure_gpa: float = 0.0

    @property
    def needs(self) -> frozenset[str]:
        """Properties that the method must provide."""
        return frozenset({"energy", "forces"} | ({"stress"} if self.cell else set()))


@dataclass(frozen=True)
class Relaxed:
    """End of a relaxation: last result, energies (hartree) and largest forces (hartree/bohr) of all steps."""

    start: System
    result: Result
    converged: bool
    energies: list[float]
    largest_forces: list[float]
    settings: Settings
    failure: str | None = None
    """Reason why the method could not calculate the next step."""
    stuck: bool = False
    """True if the optimiser returned no finite step: within the noise of the forces its steps can become 0 / 0."""

    def __post_init__(self) -> None:
        if self.climbed:
            object.__setattr__(self, "converged", False)

    @property
    def steps(self) -> int:
        return len(self.energies) - 1

    @property
    def climbed(self) -> bool:
        """True if the end lies above the start: where the curvature is negative, L-BFGS goes uphill, to atoms apart.

        A cell may rise in energy under pressure, and an energy with error bars by chance.
        """
        certain = not self.settings.cell and self.result.energy_stderr is None
        return certain and self.energies[-1] > self.energies[0] + CLIMBED


def check_settings(settings: Settings, system: System) -> None:
    """Raise InputError for settings without meaning for the system."""
    from fusion.chemistry import constraints

    check_numbers(settings)
    if settings.cell and not all(system.pbc):
        raise InputError(f"task.cell=true needs a cell with three periodic directions; {system.name} has none")
    if settings.cell and system.fixed is not None:
        names = " ".join(constraints.names(system)[:8])
        raise InputError(
            f"task.cell=true moves every atom with the cell, but atoms are held ({names}). "
            "Set task.cell=false, or hold no atoms"
        )
    if settings.pressure_gpa and not settings.cell:
        raise InputError("task.pressure_gpa acts on a cell that relaxes: add task.cell=true")
    constraints.check_free(system, "relax")
    _create(settings.optimiser, _moving(system.to_atoms(), system, settings))


def check_numbers(settings: Settings) -> None:
    """Raise InputError for a force or a number of steps that is not positive."""
    if not (is_number(settings.fmax) and settings.fmax > 0):
        raise InputError(f"task.fmax must be a positive force in hartree/bohr, such as 1e-4, not {settings.fmax}")
    if not is_number(settings.pressure_gpa):
        raise InputError(f"task.pressure_gpa must be a number of GPa, not {settings.pressure_gpa!r}")
    check_whole("task.steps", settings.steps)


def relax(
    journal: Journal,
    system: System,
    settings: Settings,
    trajectory: Path | None = None,
    after: Callable[[int, float, float], None] | None = None,
) -> Relaxed:
    """Relax `system` with the journal's method; frames go to the file `trajectory`.

    `after(step, energy, force)` is called after every step; without it the relaxation shows its own progress line. If
    the method fails, the relaxation ends at the last good step. Raises CalculationError if the first geometry fails.
    """
    from fusion.console.phases import phase
    from fusion.tasks.geometry.structures import Trajectory, atoms_of, frame

    atoms = atoms_of(system, journal, settings.needs - {"energy"})
    moving = _moving(atoms, system, settings)
    energies: list[float] = []
    forces: list[float] = []
    result, converged, failure, stuck = None, False, None, False
    with ExitStack() as stack:
        frames = stack.enter_context(Trajectory(trajectory)) if trajectory else None
        show = after or shown(stack.enter_context(phase("relaxing")))
        try:
            optimiser = _create(settings.optimiser, moving)
            fmax = settings.fmax * units.EV_ANGSTROM_PER_HARTREE_BOHR
            for below_fmax in optimiser.irun(fmax=fmax, steps=settings.steps):
                converged = bool(below_fmax)
                result = journal.at(atoms.calc.system(atoms), settings.needs)
                energies.append(_energy(result))
                forces.append(_force(moving))
                if frames is not None:
                    frames.add(frame(result, step=len(energies) - 1, largest_force_hartree_per_bohr=forces[-1]))
                show(len(energies) - 1, energies[-1], forces[-1])
        except (CalculationError, InputError) as error:  # an InputError at a later step: atoms collided
            if result is None:
                raise
            stuck = not np.isfinite(atoms.positions).all()
            failure = None if stuck else str(error)
    assert result is not None
    return Relaxed(system, result, converged, energies, forces, settings, failure, stuck)


def _moving(atoms: Atoms, system: System, settings: Settings) -> Any:
    """Variables of an optimiser: the free coordinates, or atoms and cell. A free molecule is kept from rotating."""
    from ase.filters import FrechetCellFilter

    from fusion.chemistry import constraints
    from fusion.tasks.geometry.structures import NoTorque

    free = None if any(atoms.pbc) else NoTorque()
    atoms.set_constraint(constraints.of_ase(system) or free)
    if not settings.cell:
        return atoms
    return FrechetCellFilter(atoms, scalar_pressure=settings.pressure_gpa * _EV_ANGSTROM3_PER_GPA)


def _optimiser(target: str) -> Any:
    """The class named `target`. Raises InputError unless it is an ASE optimiser."""
    from ase.optimize.optimize import Optimizer
    from hydra.utils import get_class

    try:
        optimiser: Any = get_class(target)
    except Exception as error:
        raise InputError(f"task.optimiser._target_: no optimiser {target!r}; {BFGS} is one") from error
    # SciPy's and the ODE optimisers have no `step` of their own to follow.
    has_own_step = getattr(optimiser, "step", Optimizer.step) is not Optimizer.step
    if not (isinstance(optimiser, type) and issubclass(optimiser, Optimizer) and has_own_step):
        raise InputError(f"task.optimiser._target_: {target} is not one of ASE's own optimisers; {BFGS} is one")
    return optimiser


def _create(config: Mapping[str, Any], moving: Atoms) -> Any:
    """Create the optimiser of the variables `moving`. Raises InputError for settings that it does not accept."""
    keywords = {str(key): value for key, value in config.items() if key != "_target_"}
    target = str(config.get("_target_") or (BFGS if len(moving) <= SMALL else LBFGS))
    optimiser = _optimiser(target)
    try:
        return optimiser(moving, logfile=None, **keywords)
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"task.optimiser: cannot create {target} with these settings: {error}") from error


def _energy(result: Result) -> float:
    assert result.energy is not None
    return result.energy


def _force(moving: Atoms) -> float:
    """Largest force on the variables, a cell included, hartree/bohr."""
    from fusion.tasks.geometry.structures import HARTREE_BOHR_PER_EV_ANGSTROM, largest_force

    return largest_force(moving.get_forces()) * HARTREE_BOHR_PER_EV_ANGSTROM


def short(force: float) -> str:
    """Format a force with two significant figures: `1e-4`, `2.3e-5`, `0.12`."""
    if force >= 0.01 or force == 0:
        return f"{force:.2g}"
    return f"{force:.1e}".replace("e-0", "e-").replace(".0e", "e")


def shown(bar: Callable[[int, str], None]) -> Callable[[int, float, float], None]:
    """Progress line of a relaxation, called with step, energy and largest force."""
    return lambda step, energy, force: bar(step, f"E = {energy:.6f} Ha  largest force {short(force)} Ha/bohr")
