"""Enthalpies and free energies of atomisation, formation and reaction, compared with experiment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.config.checks import check_number
from fusion.errors import InputError
from fusion.methods import protocol
from fusion.parallel import processes
from fusion.runs.results import Result
from fusion.runs.task import Plan, Title

if TYPE_CHECKING:
    from fusion.chemistry.reactions import Reaction
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.runs.run import Run
    from fusion.tasks.thermochemistry.species import Level, Species

PICTURE = "thermochemistry.png"


@dataclass(frozen=True)
class ThermochemistryPlan(Plan):
    """Thermochemistry of `molecules` and `reactions` at the `levels`, the first of which gives the geometries.

    `species` are all molecules and atoms needed, by name; `problems` the reasons why some cannot be calculated.
    """

    levels: Sequence[Level]
    reactions: Sequence[Reaction]
    molecules: Sequence[str]
    species: Mapping[str, System]
    problems: Mapping[str, str]


class Thermochemistry:
    """Relaxation, harmonic frequencies and thermal corrections of every molecule of `molecules` and `reaction` (one
    text or several, as in `fusion.chemistry.reactions`), then enthalpies and free energies at the temperature and
    pressure.

    Without both, the molecule is the run's own system. `energies` names further methods for energies at the geometries
    of the run's method. `zero_point_scale` multiplies only zero-point energies; `spin_orbit` adds measured spin-orbit
    energies to atoms. Every species has its own journal, so that an interrupted run can be resumed.
    """

    needs = frozenset({"energy", "forces", "hessian"})

    def __init__(
        self,
        molecules: Sequence[str] | str | None,
        reaction: Sequence[str] | str | None,
        energies: Any,
        optimiser: Mapping[str, Any],
        fmax: float,
        steps: int,
        temperature_k: float,
        pressure_bar: float,
        zero_point_scale: float,
        spin_orbit: bool,
        noise_cm1: float,
        unit: str,
        name: str = "thermochemistry",
    ) -> None:
        from fusion.tasks.relax.relaxation import Settings
        from fusion.tasks.thermochemistry.balance import Conditions

        self.name, self._molecules, self._reactions = name, _listed(molecules), _listed(reaction)
        self._entries, self._settings = energies, Settings(optimiser, fmax, steps)
        self._conditions = Conditions(temperature_k, zero_point_scale, spin_orbit)
        self._pressure_bar, self._noise_cm1, self._unit = pressure_bar, noise_cm1, unit

    def check(self, method: Method, system: System, run: Run) -> ThermochemistryPlan:
        """Raises InputError for wrong settings, unknown molecules, unbalanced reactions, a method that can calculate
        none of the molecules, and atoms if no level has atomic energies."""
        self._check_settings(system)
        from fusion.tasks.thermochemistry import subjects

        levels = subjects.read_levels(method, self._entries)
        reactions = subjects.read_reactions(self._reactions, run.start_dir)
        molecules = subjects.read_molecules(self._molecules, run.start_dir)
        if not molecules and not reactions:
            molecules = {system.name: system}
        subjects.refuse_atoms(levels, molecules, reactions)
        species = subjects.species_of(molecules, reactions)
        problems = self._problems(species, levels, run)
        return ThermochemistryPlan(method, system, levels, reactions, list(molecules), species, problems)

    def title(self, plan: ThermochemistryPlan, run: Run) -> Title:
        """Levels and subjects for the title, and notes on geometries, resumed and refused species."""
        from fusion.console.format import count
        from fusion.tasks.thermochemistry.species import recorded

        parts = [count(len(plan.molecules), "molecule")] if plan.molecules else []
        parts += [count(len(plan.reactions), "reaction")] if plan.reactions else []
        low, high = plan.levels[0].label, ", ".join(level.label for level in plan.levels[1:])
        levels = f"{high} // {low}" if high else low
        notes = [f"energies of {high} at geometries and frequencies of {low}"] if high else []
        arguments = plan.levels, run, self.name
        resumed = [name for name, system in plan.species.items() if recorded(name, system, *arguments)]
        notes += [f"resuming the calculations of {', '.join(resumed)}"] if resumed else []
        notes += [f"left out: {name}: {problem}" for name, problem in plan.problems.items()]
        for name, system in plan.species.items():
            notes += [f"{name}: {note}" for note in system.notes if note not in plan.system.notes]
        return (levels, " and ".join(parts), self.name), tuple(notes)

    def run(self, plan: ThermochemistryPlan, run: Run) -> Result:
        """Return all energies in `thermochemical` of the details; write tables after every species."""
        from fusion.console.phases import phase
        from fusion.runs.state import write_state
        from fusion.tasks.thermochemistry import species as calculations
        from fusion.tasks.vibrations.analysis import Conditions

        if processes.rank() != 0:  # only the first process calculates
            return Result(next(iter(plan.species.values())))
        write_state(run, {"task": self.name, "species": list(plan.species)})  # every species has its own checkpoint
        conditions = Conditions(self._conditions.temperature_k, self._pressure_bar, None, self._noise_cm1)
        all_species = {name: _begun(name, system, plan.problems.get(name)) for name, system in plan.species.items()}
        for species in all_species.values():
            if species.problem is not None:
                continue
            with phase(species.name) as bar:
                calculations.calculate(species, plan.levels, self._settings, conditions, run, self.name, bar)
                bar(species.details.get("relaxation_steps", 0), _summary(species))
            self._write(plan, all_species, run)
        return self._outcome(plan, all_species, run)

    def _outcome(self, plan: ThermochemistryPlan, species: Mapping[str, Species], run: Run) -> Result:
        from fusion.tasks.thermochemistry import report

        document = self._write(plan, species, run)
        result = Result(next(iter(plan.species.values())), details={"thermochemical": document})
        result.message = report.summary(document)
        if result.message is not None:
            result.status = "not_converged"
        return result

    def _write(self, plan: ThermochemistryPlan, species: Mapping[str, Species], run: Run) -> dict[str, Any]:
        """Write the tables of all results so far; return their content."""
        from fusion.files.atomic import write_atomically
        from fusion.tasks.thermochemistry import report
        from fusion.tasks.thermochemistry.subjects import has_atoms

        document = report.document(
            species,
            plan.molecules,
            plan.reactions,
            plan.levels,
            {level.label: has_atoms(level) for level in plan.levels},
            self._conditions,
            self._pressure_bar,
        )
        document["unit"] = self._unit
        write_atomically(run.directory / report.TABLE, report.table(document, self._unit))
        write_atomically(run.directory / report.MARKDOWN, report.markdown(document, self._unit))
        return document

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """Yield tables of molecules and reactions."""
        from fusion.tasks.thermochemistry.report import rows

        thermochemical = document.get("thermochemical")
        if thermochemical:
            yield from rows(thermochemical, thermochemical["unit"])

    @staticmethod
    def draw(directory: Path) -> None:
        """Draw `thermochemistry.png`, the errors against experiment, once there are any."""
        from fusion.tasks.thermochemistry.plot import draw

        draw(directory, directory / PICTURE)

    @staticmethod
    def files(directory: Path) -> list[str]:
        """Names of the files written."""
        from fusion.tasks.thermochemistry.report import MARKDOWN, TABLE
        from fusion.tasks.thermochemistry.species import FOLDER

        names = [name for name in (TABLE, MARKDOWN) if (directory / name).is_file()]
        return [*names, f"{FOLDER}/ …"] if (directory / FOLDER).is_dir() else names

    @staticmethod
    def stands(directory: Path) -> str | None:
        """Number of species that an unfinished run has begun, and the last of them, in words."""
        from fusion.tasks.thermochemistry.species import FOLDER

        folder = directory / FOLDER
        begun = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime) if folder.is_dir() else []
        return f"{len(begun)} species begun, the last {begun[-1].name}" if begun else None

    def _check_settings(self, system: System) -> None:
        from fusion.tasks.relax import relaxation
        from fusion.tasks.thermochemistry.report import UNITS

        relaxation.check_settings(self._settings, system)
        check_number("task.noise_cm1", self._noise_cm1)
        for setting, value in (
            ("temperature_k", self._conditions.temperature_k),
            ("pressure_bar", self._pressure_bar),
            ("zero_point_scale", self._conditions.scale),
        ):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise InputError(f"task.{setting} must be a positive number, not {value}")
        if not 0.5 <= self._conditions.scale <= 1.5:
            raise InputError(
                f"task.zero_point_scale must be from 0.5 to 1.5, such as 0.97, not {self._conditions.scale}"
            )
        if self._unit not in UNITS:
            raise InputError(f"task.unit must be {' or '.join(UNITS)}, not {self._unit!r}")

    def _problems(self, species: Mapping[str, System], levels: Sequence[Level], run: Run) -> dict[str, str]:
        """Reasons why the methods cannot calculate species. Raises InputError if no molecule is left, and for a foreign
        checkpoint."""
        from fusion.chemistry.constraints import names
        from fusion.tasks.thermochemistry.species import recorded

        protocol.require(levels[0].method, self.needs, f"task {self.name}")
        periodic = [name for name, system in species.items() if any(system.pbc)]
        if periodic:
            raise InputError(f"{periodic[0]} is periodic; the thermochemistry of an ideal gas applies to molecules")
        for name, system in species.items():
            if system.fixed is not None:
                raise InputError(
                    f"{name} has held atoms ({' '.join(names(system)[:8])}): an ideal gas has free molecules; "
                    "task=vibrations gives the harmonic free energy with held atoms"
                )
        refusals: dict[str, InputError] = {}
        for name, system in species.items():
            try:
                self._check_one(system, levels)
            except InputError as error:
                refusals[name] = error
            recorded(name, system, levels, run, self.name)
        if refusals and all(name in refusals for name, system in species.items() if len(system.symbols) > 1):
            raise next(iter(refusals.values()))
        return {name: str(error) for name, error in refusals.items()}

    def _check_one(self, system: System, levels: Sequence[Level]) -> None:
        from fusion.tasks.thermochemistry import subjects

        for number, level in enumerate(levels):
            if len(system.symbols) > 1:
                needs = self.needs if number == 0 else {"energy"}
                protocol.require(level.method, needs, f"task {self.name}", [system])
            elif subjects.calculates_atoms(level):
                protocol.require(level.method, {"energy"}, f"task {self.name}", [system])


def _begun(name: str, system: System, problem: str | None) -> Species:
    """A species without results; that with a problem has failed."""
    from fusion.chemistry import g2
    from fusion.tasks.thermochemistry.species import Species

    status = "ok" if problem is None else "failed"
    return Species(name, system, g2.recognised(system), problem=problem, status=status)


def _listed(names: Sequence[str] | str | None) -> list[str]:
    if names is None:
        return []
    return [names] if isinstance(names, str) else [str(name) for name in names]


def _summary(species: Species) -> str:
    """Energies of a species, or its problem, for the end of its progress line."""
    from fusion.chemistry import units

    if species.problem is not None:
        return f"LEFT OUT: {species.problem}"
    values = [f"{energy.value:.6f}" if energy.value is not None else "none" for energy in species.energies.values()]
    text = f"E = {', '.join(values)} Ha" if values else "no energy"
    return (
        text
        if species.is_atom
        else f"{text}  zero-point {species.zero_point * units.KCAL_MOL_PER_HARTREE:.2f} kcal/mol"
    )
