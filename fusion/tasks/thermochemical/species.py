"""One molecule or atom: its minimum, vibrations and thermal corrections, and its energy at further levels."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from fusion import g2, methods, named, units, zeros
from fusion.atomic import make_folder
from fusion.errors import CalculationError, InputError
from fusion.results import Result
from fusion.runs import Run
from fusion.system import System
from fusion.tasks.harmonic.normal_modes import normal_modes
from fusion.tasks.interruption.journal import Journal, going_on
from fusion.tasks.structure import relaxation as relaxing
from fusion.tasks.structure.geometry import write_structure
from fusion.tasks.vibrations import Conditions, describe, nature

FOLDER = Path("molecules")
"""Where in a run's directory the species have theirs."""

Watch = Callable[[int, str], None]


@dataclass(frozen=True)
class Level:
    """Where energies come from: the run's method (`node` None), or a further one for energies at its geometries."""

    label: str
    method: Any
    node: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Energy:
    """The energy (hartree) of a species at a level, with its statistical error, the spread of an ensemble and the
    energies of its members (M,) where they are known; None where the calculation failed, and why."""

    value: float | None
    stderr: float | None = None
    std: float | None = None
    members: np.ndarray | None = None
    message: str | None = None

    @classmethod
    def of(cls, result: Result) -> Energy:
        """What a result says; nothing of one that is not ok."""
        if result.status != "ok" or result.energy is None:
            return cls(None, message=result.message or result.status)
        members = result.properties.get("energy_members")
        known = None if members is None else np.asarray(members)
        return cls(result.energy, result.energy_stderr, result.energy_std, known, result.message)


@dataclass
class Species:
    """What is known of one species: the corrections to its energies (hartree, entropy in hartree/K), and those energies
    by level.

    `zero_point` is not scaled; `thermal` is H(T) - H(0 K), `thermal_room` the same at 298.15 K. `problem` says why it
    has none of this, or why nothing may be made of it.
    """

    name: str
    system: System
    experiment: str | None = None
    zero_point: float = 0.0
    thermal: float = 0.0
    thermal_room: float = 0.0
    entropy: float = 0.0
    energies: dict[str, Energy] = field(default_factory=dict)
    problem: str | None = None
    status: str = "ok"
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def is_atom(self) -> bool:
        """Whether it has a single nucleus."""
        return len(self.system.symbols) == 1


def calculate(
    species: Species,
    levels: list[Level],
    settings: relaxing.Settings,
    conditions: Conditions,
    run: Run,
    task: str,
    watch: Watch,
) -> None:
    """Fill `species`: relax it and its vibrations with the first of `levels`, then energies of the others there.

    What fails is said in `problem`, or in the message of the level's energy.
    """
    if species.is_atom:
        _atom(species, levels, conditions, run, task, watch)
        return
    own = part(run, species.name)
    make_folder(own.directory, run.directory)
    try:
        with Journal(levels[0].method, species.system, own, task) as journal:
            found = _minimum(journal, species, settings, own, watch)
            if found is None:
                return
            hessian = _with_hessian(journal, found, watch)
    except (CalculationError, InputError) as error:
        species.status, species.problem = "failed", str(error)
        return
    species.energies[levels[0].label] = Energy.of(hessian)
    _corrections(species, hessian, conditions)
    if species.problem is None:
        for number, level in enumerate(levels[1:], start=1):
            watch(number, f"{level.label} ...")
            own = part(run, species.name, level, number)
            make_folder(own.directory, run.directory)
            species.energies[level.label] = _single_point(species, hessian.system, level, own, task)


def _atom(species: Species, levels: list[Level], conditions: Conditions, run: Run, task: str, watch: Watch) -> None:
    """Energies and thermal corrections of an atom: none at a level that has no energies of atoms."""
    system = species.system
    _corrections(species, Result(system, energy=0.0, properties={"hessian": np.zeros((3, 3))}), conditions)
    for number, level in enumerate(levels):
        zero = zeros.of(level.method)
        watch(number, f"{level.label} ...")
        if zero == zeros.ATOMISATION:
            species.energies[level.label] = Energy(0.0)
        elif zero != zeros.OWN:
            own = part(run, species.name, level if number else None, number)
            make_folder(own.directory, run.directory)
            species.energies[level.label] = _single_point(species, system, level, own, task)


def _minimum(journal: Journal, species: Species, settings: relaxing.Settings, own: Run, watch: Watch) -> Result | None:
    """The result at the minimum; None where there is none, which the species then says."""
    relaxed = relaxing.relax(
        journal,
        species.system,
        settings,
        own.directory / relaxing.TRAJECTORY,
        lambda step, energy, force: watch(step, f"E = {energy:.6f} Ha  largest force {relaxing.short(force)} Ha/bohr"),
    )
    write_structure(own.directory / relaxing.STRUCTURE, relaxed.result)
    species.details["relaxation_steps"] = relaxed.steps
    if relaxed.failure is not None:
        species.status, species.problem = "failed", f"step {relaxed.steps + 1} of the relaxation: {relaxed.failure}"
        return None
    if not relaxed.converged:
        species.status, species.problem = "not_converged", f"not relaxed: {relaxing.why_not(relaxed, own)}"
        return None
    return relaxed.result


def _with_hessian(journal: Journal, found: Result, watch: Watch) -> Result:
    """The result at a minimum with the Hessian. Raises CalculationError."""
    if "hessian" not in journal.provides:
        total = 6 * len(found.system.symbols)
        journal.watch = lambda done: watch(done, f"of {total} displacements for the Hessian")
    members = {"energy_members"} & journal.provides
    (result,) = methods.calculate(journal, [found.system], {"energy", "forces", "hessian"} | members)
    journal.watch = None
    if result.status != "ok" or result.energy is None:
        raise CalculationError(result.message or result.status)
    return result


def _corrections(species: Species, result: Result, conditions: Conditions) -> None:
    """Zero-point energy and thermal corrections at the conditions and at 298.15 K, or the reason why there are none."""
    system = result.system
    modes = normal_modes(np.asarray(result.properties["hessian"]), system.positions, system.nuclear_masses)
    found = describe(result, modes, conditions)
    thermo = found["thermochemistry"]
    room = describe(result, modes, replace(conditions, temperature_k=g2.ROOM_K))["thermochemistry"]
    species.zero_point = modes.zero_point_energy
    species.thermal = thermo["enthalpy_correction_hartree"] - species.zero_point
    species.thermal_room = room["enthalpy_correction_hartree"] - species.zero_point
    species.entropy = thermo["entropy_j_per_mol_k"] / (1000.0 * units.KJ_MOL_PER_HARTREE)
    species.details |= {
        "frequencies_cm1": found["frequencies_cm1"],
        "point_group": thermo["point_group"],
        "symmetry_number": thermo["symmetry_number"],
        "entropy_j_per_mol_k": thermo["entropy_j_per_mol_k"],
    }
    imaginary = found["vibrations"]["n_imaginary"]
    if imaginary:
        species.status = "not_converged"
        species.problem = f"{nature(imaginary)} ({-modes.frequencies[0]:.0f}i cm⁻¹)"


def _single_point(species: Species, system: System, level: Level, own: Run, task: str) -> Energy:
    """The energy at a geometry of the species; a failure is in its message."""
    wanted = {"energy"} | ({"energy_members"} & level.method.provides)
    try:
        with Journal(level.method, species.system, own, task) as journal:
            return Energy.of(journal.at(system, wanted))
    except (CalculationError, InputError) as error:
        return Energy(None, message=str(error))


def part(run: Run, name: str, level: Level | None = None, number: int = 0) -> Run:
    """The run as the journal of one species, or of a further level's energy of it, sees it."""
    folder = FOLDER / re.sub(r"[^\w.+-]", "_", name)
    config: Any = run.config
    if level is not None:
        folder = folder / f"energy-{number}"
        config = OmegaConf.create({"method": level.node, "dtype": None, "weights": None})
    assert isinstance(config, DictConfig)
    return run.part(folder, config)


def recorded(species: Species, levels: list[Level], run: Run, task: str) -> bool:
    """Whether the run goes on with something of the species. Raises InputError for a checkpoint of something else."""
    notes = [going_on(levels[0].method, species.system, part(run, species.name), task)]
    for number, level in enumerate(levels[1:], start=1):
        notes.append(going_on(level.method, species.system, part(run, species.name, level, number), task))
    return any(notes)


def further(entries: Any) -> list[Level]:
    """The levels that `task.energies` names: one entry of `fusion.named`, or a list. Raises InputError."""
    if entries is None:
        return []
    plain: Any = OmegaConf.to_container(entries, resolve=True) if OmegaConf.is_config(entries) else entries
    listed = plain if isinstance(plain, list) else [plain]
    levels = []
    for entry in listed:
        try:
            name, options = named.parts(entry)
            node = named.node(name, options)
            method = methods.build(node)
        except InputError as error:
            raise InputError(f"task.energies: {error}") from error
        described = OmegaConf.to_container(node, resolve=True)
        assert isinstance(described, dict)
        label = str(getattr(method, "label", name))
        levels.append(Level(label, method, {str(key): value for key, value in described.items()}))
    return levels
