"""Species of thermochemistry: minimum, vibrations and thermal corrections, and energies at further levels."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from fusion.chemistry import energy_zeros, g2, units
from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.files.atomic import make_folder
from fusion.methods import by_name, protocol
from fusion.methods.recorded import Journal, resume_note
from fusion.runs.results import Result
from fusion.runs.run import Run
from fusion.tasks.geometry.normal_modes import normal_modes
from fusion.tasks.geometry.structures import write_structure
from fusion.tasks.relax import relaxation as relaxing
from fusion.tasks.relax.relaxation import short
from fusion.tasks.relax.report import why_not
from fusion.tasks.vibrations.analysis import Conditions, describe, nature

FOLDER = Path("molecules")
"""Folder in a run's directory with the folders of the species."""

Watch = Callable[[int, str], None]


@dataclass(frozen=True)
class Level:
    """Level of theory: the run's method (`node` None), or a further method for energies at the same geometries."""

    label: str
    method: Any
    node: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Energy:
    """Energy (hartree) of a species at a level, with statistical error, spread of an ensemble and energies of its
    members (M,), as far as there are any. If the calculation failed, `value` is None and `message` the reason."""

    value: float | None
    stderr: float | None = None
    std: float | None = None
    members: np.ndarray | None = None
    message: str | None = None

    @classmethod
    def of(cls, result: Result) -> Energy:
        """The energy of a result; None with the reason if its status is not ok."""
        if result.status != "ok" or result.energy is None:
            return cls(None, message=result.message or result.status)
        members = result.properties.get("energy_members")
        member_energies = None if members is None else np.asarray(members)
        return cls(result.energy, result.energy_stderr, result.energy_std, member_energies, result.message)


@dataclass
class Species:
    """A species with its energies by level and their thermal corrections (hartree; entropy in hartree/K).

    `zero_point` is not scaled; `thermal` is H(T) - H(0 K), `thermal_room` the same at 298.15 K. `problem`: reason why
    these are missing or must not be used.
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
        """True for a single atom."""
        return len(self.system.symbols) == 1


def calculate(
    species: Species,
    levels: Sequence[Level],
    settings: relaxing.Settings,
    conditions: Conditions,
    run: Run,
    task: str,
    watch: Watch,
) -> None:
    """Fill in `species`: minimum and vibrations with the first of `levels`, then energies of the others at the minimum.

    The reason of a failure goes to `problem`, or to the message of the level's energy.
    """
    if species.is_atom:
        _atom(species, levels, conditions, run, task, watch)
        return
    species_run = part(run, species.name)
    make_folder(species_run.directory, run.directory)
    try:
        with Journal(levels[0].method, species.system, species_run, task) as journal:
            minimum = _minimum(journal, species, settings, species_run, watch)
            if minimum is None:
                return
            hessian = _with_hessian(journal, minimum, watch)
    except (CalculationError, InputError) as error:
        species.status, species.problem = "failed", str(error)
        return
    species.energies[levels[0].label] = Energy.of(hessian)
    _corrections(species, hessian, conditions)
    if species.problem is None:
        for number, level in enumerate(levels[1:], start=1):
            watch(number, f"{level.label} ...")
            species_run = part(run, species.name, level, number)
            make_folder(species_run.directory, run.directory)
            species.energies[level.label] = _single_point(species, hessian.system, level, species_run, task)


def _atom(species: Species, levels: Sequence[Level], conditions: Conditions, run: Run, task: str, watch: Watch) -> None:
    """Fill in energies and thermal corrections of an atom; no energy at a level without atomic energies."""
    system = species.system
    _corrections(species, Result(system, energy=0.0, properties={"hessian": np.zeros((3, 3))}), conditions)
    for number, level in enumerate(levels):
        zero = level.method.energy_zero
        watch(number, f"{level.label} ...")
        if zero == energy_zeros.ATOMISATION:
            species.energies[level.label] = Energy(0.0)
        elif zero != energy_zeros.OWN:
            species_run = part(run, species.name, level if number else None, number)
            make_folder(species_run.directory, run.directory)
            species.energies[level.label] = _single_point(species, system, level, species_run, task)


def _minimum(
    journal: Journal, species: Species, settings: relaxing.Settings, species_run: Run, watch: Watch
) -> Result | None:
    """Result at the minimum; None if there is none, with the reason in `species`."""
    relaxed = relaxing.relax(
        journal,
        species.system,
        settings,
        species_run.directory / relaxing.TRAJECTORY,
        lambda step, energy, force: watch(step, f"E = {energy:.6f} Ha  largest force {short(force)} Ha/bohr"),
    )
    write_structure(species_run.directory / relaxing.STRUCTURE, relaxed.result)
    species.details["relaxation_steps"] = relaxed.steps
    if relaxed.failure is not None:
        species.status, species.problem = "failed", f"step {relaxed.steps + 1} of the relaxation: {relaxed.failure}"
        return None
    if not relaxed.converged:
        species.status, species.problem = "not_converged", f"not relaxed: {why_not(relaxed, species_run)}"
        return None
    return relaxed.result


def _with_hessian(journal: Journal, minimum: Result, watch: Watch) -> Result:
    """Result at a minimum with the Hessian. Raises CalculationError."""
    if "hessian" not in journal.provides:
        total = 6 * len(minimum.system.symbols)
        journal.watch = lambda done: watch(done, f"of {total} displacements for the Hessian")
    members = {"energy_members"} & journal.provides
    (result,) = protocol.calculate(journal, [minimum.system], {"energy", "forces", "hessian"} | members)
    journal.watch = None
    if result.status != "ok" or result.energy is None:
        raise CalculationError(result.message or result.status)
    return result


def _corrections(species: Species, result: Result, conditions: Conditions) -> None:
    """Set zero-point energy and thermal corrections at the conditions and at 298.15 K; set the problem of a saddle
    point."""
    system = result.system
    modes = normal_modes(np.asarray(result.properties["hessian"]), system.positions, system.nuclear_masses)
    details = describe(result, modes, conditions)
    thermo = details["thermochemistry"]
    thermo_room = describe(result, modes, replace(conditions, temperature_k=g2.ROOM_K))["thermochemistry"]
    species.zero_point = modes.zero_point_energy
    species.thermal = thermo["enthalpy_correction_hartree"] - species.zero_point
    species.thermal_room = thermo_room["enthalpy_correction_hartree"] - species.zero_point
    species.entropy = thermo["entropy_j_per_mol_k"] / (1000.0 * units.KJ_MOL_PER_HARTREE)
    species.details |= {
        "frequencies_cm1": details["frequencies_cm1"],
        "point_group": thermo["point_group"],
        "symmetry_number": thermo["symmetry_number"],
        "entropy_j_per_mol_k": thermo["entropy_j_per_mol_k"],
    }
    below_noise = details["vibrations"]["n_below_noise"]
    if below_noise:
        species.details["modes_below_noise"] = below_noise
    imaginary = details["vibrations"]["n_imaginary"]
    if imaginary:
        species.status = "not_converged"
        species.problem = f"{nature(imaginary)} ({-modes.frequencies[0]:.0f}i cm⁻¹)"


def _single_point(species: Species, system: System, level: Level, species_run: Run, task: str) -> Energy:
    """Energy at a geometry of the species; the message has the reason of a failure."""
    properties = {"energy"} | ({"energy_members"} & level.method.provides)
    try:
        with Journal(level.method, species.system, species_run, task) as journal:
            return Energy.of(journal.at(system, properties))
    except (CalculationError, InputError) as error:
        return Energy(None, message=str(error))


def part(run: Run, name: str, level: Level | None = None, number: int = 0) -> Run:
    """The run for the journal of one species, or of its energy at a further level."""
    folder = FOLDER / re.sub(r"[^\w.+-]", "_", name)
    config: Any = run.config
    if level is not None:
        folder = folder / f"energy-{number}"
        config = OmegaConf.create({"method": level.node, "dtype": None, "weights": None})
    assert isinstance(config, DictConfig)
    return run.part(folder, config)


def recorded(name: str, system: System, levels: Sequence[Level], run: Run, task: str) -> bool:
    """True if the run resumes calculations of the species. Raises InputError for a checkpoint of another task, system
    or method."""
    notes = [resume_note(levels[0].method, system, part(run, name), task)]
    for number, level in enumerate(levels[1:], start=1):
        notes.append(resume_note(level.method, system, part(run, name, level, number), task))
    return any(notes)


def further(entries: Any) -> list[Level]:
    """Levels of `task.energies`: one entry in the form of `fusion.methods.by_name`, or a list. Raises InputError."""
    if entries is None:
        return []
    plain: Any = OmegaConf.to_container(entries, resolve=True) if OmegaConf.is_config(entries) else entries
    listed = plain if isinstance(plain, list) else [plain]
    levels = []
    for entry in listed:
        try:
            name, options = by_name.parts(entry)
            node = by_name.node(name, options)
            method = protocol.build(node)
        except InputError as error:
            raise InputError(f"task.energies: {error}") from error
        described = OmegaConf.to_container(node, resolve=True)
        assert isinstance(described, dict)
        levels.append(Level(method.label, method, {str(key): value for key, value in described.items()}))
    return levels
