"""Enthalpies and free energies of atomisation, formation and reaction, compared with experiment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.errors import InputError
from fusion.methods import protocol
from fusion.parallel import processes
from fusion.runs.results import Result

if TYPE_CHECKING:
    from fusion.chemistry.reactions import Reaction
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.runs.run import Run
    from fusion.tasks.thermochemistry.species import Level, Species

PICTURE = "thermochemistry.png"


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

    def check(self, method: Method, system: System, run: Run) -> None:
        """Raises InputError for wrong settings, unknown molecules, unbalanced reactions, a method that can calculate
        none of the molecules, and atoms if no level has atomic energies."""
        self._check_settings(system)
        self.levels = self._read_levels(method)
        self.reactions = self._read_reactions(run)
        self.molecules = self._read_molecules(system, run)
        self._refuse_atoms()
        self.species = self._read_species()
        self._check_species(method, run)

    def title(self, method: Any, system: System, run: Run) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Levels and subjects for the title, and notes on geometries, resumed and refused species."""
        from fusion.console.format import count
        from fusion.tasks.thermochemistry.species import recorded

        parts = [count(len(self.molecules), "molecule")] if self.molecules else []
        parts += [count(len(self.reactions), "reaction")] if self.reactions else []
        high = ", ".join(level.label for level in self.levels[1:])
        levels = f"{high} // {self.levels[0].label}" if high else self.levels[0].label
        notes = [f"energies of {high} at geometries and frequencies of {self.levels[0].label}"] if high else []
        resumed = [species.name for species in self.species.values() if recorded(species, self.levels, run, self.name)]
        notes += [f"resuming the calculations of {', '.join(resumed)}"] if resumed else []
        notes += [
            f"left out: {species.name}: {species.problem}" for species in self.species.values() if species.problem
        ]
        for species in self.species.values():
            notes += [f"{species.name}: {note}" for note in species.system.notes if note not in system.notes]
        return (levels, " and ".join(parts), self.name), tuple(notes)

    def run(self, method: Method, system: System, run: Run) -> Result:
        """Return all energies in `thermochemical` of the details; write tables after every species."""
        from fusion.console.phases import phase
        from fusion.runs.state import write_state
        from fusion.tasks.thermochemistry import species as calculations
        from fusion.tasks.vibrations.task import Conditions

        first = next(iter(self.species.values())).system
        if processes.rank() != 0:  # only the first process calculates
            return Result(first)
        write_state(run, {"task": self.name, "species": list(self.species)})  # every species has its own checkpoint
        conditions = Conditions(self._conditions.temperature_k, self._pressure_bar, None, self._noise_cm1)
        for species in self.species.values():
            if species.problem is not None:
                continue
            with phase(species.name) as bar:
                calculations.calculate(species, self.levels, self._settings, conditions, run, self.name, bar)
                bar(species.details.get("relaxation_steps", 0), _summary(species))
            self._write(run)
        return self._outcome(first, run)

    def _outcome(self, system: System, run: Run) -> Result:
        from fusion.tasks.thermochemistry import report

        document = self._write(run)
        result = Result(system, details={"thermochemical": document})
        result.message = report.summary(document)
        if result.message is not None:
            result.status = "not_converged"
        return result

    def _write(self, run: Run) -> dict[str, Any]:
        """Write the tables of all results so far; return their content."""
        from fusion.files.atomic import write_atomically
        from fusion.tasks.thermochemistry import report

        document = report.document(
            self.species,
            list(self.molecules),
            self.reactions,
            self.levels,
            {level.label: _has_atoms(level) for level in self.levels},
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

    def _read_levels(self, method: Method) -> list[Level]:
        from fusion.tasks.thermochemistry.species import Level, further

        levels = [Level(str(getattr(method, "label", method.name)), method), *further(self._entries)]
        labels = [level.label for level in levels]
        repeated = next((label for label in labels if labels.count(label) > 1), None)
        if repeated is not None:
            raise InputError(f"task.energies: {repeated} is listed twice; the run's own method is always included")
        return levels

    def _read_reactions(self, run: Run) -> list[Reaction]:
        from fusion.chemistry import reactions as reaction

        try:
            return reaction.parse_all(self._reactions, run.start_dir)
        except InputError as error:
            raise InputError(f"task.reaction: {error}") from error

    def _read_molecules(self, system: System, run: Run) -> dict[str, System]:
        """Molecules to atomise, by name; the run's own if there are neither molecules nor reactions."""
        from fusion.chemistry import reactions as reaction

        if not self._molecules and not self._reactions:
            molecules = {system.name: system}
        else:
            try:
                molecules = {name: reaction.species(name, run.start_dir) for name in self._molecules}
            except InputError as error:
                raise InputError(f"task.molecules: {error}") from error
        atoms = [name for name, molecule in molecules.items() if len(molecule.symbols) == 1]
        if atoms:
            raise InputError(
                f"task.molecules: {atoms[0]} is an atom; name molecules, task.molecules=[H2O,CH4], or a reaction, "
                "task.reaction='2 H2O -> 2 H2 + O2'"
            )
        return molecules

    def _refuse_atoms(self) -> None:
        """Raise InputError if atoms are needed, for molecules or in a reaction, but no level has atomic energies."""
        if any(_has_atoms(level) for level in self.levels):
            return
        atoms = [term for reaction in self.reactions for term in reaction.terms if len(term.system.symbols) == 1]
        no_atoms = f"{self.levels[0].label} has no meaningful energies of single atoms"
        advice = (
            "reactions of molecules instead, task.reaction='2 H2O -> 2 H2 + O2', or energies of another method at its "
            "geometries, task.energies={method: dft}"
        )
        if self.molecules:
            raise InputError(f"{no_atoms}, so no atomisation energies or heats of formation: give {advice}")
        if atoms:
            raise InputError(f"task.reaction: {atoms[0].name} is an atom, and {no_atoms}: give {advice}")

    def _read_species(self) -> dict[str, Species]:
        """All molecules and atoms, each once; atoms of the molecules are named by their symbols."""
        from fusion.chemistry import g2
        from fusion.tasks.thermochemistry import balance
        from fusion.tasks.thermochemistry.species import Species

        systems = dict(self.molecules)
        for reaction in self.reactions:
            systems |= {term.name: term.system for term in reaction.terms}
        symbols = dict.fromkeys(symbol for system in self.molecules.values() for symbol in system.symbols)
        systems |= {symbol: balance.atom(symbol) for symbol in symbols}
        return {name: Species(name, system, g2.recognised(system)) for name, system in systems.items()}

    def _check_species(self, method: Method, run: Run) -> None:
        """Mark species that the methods cannot calculate. Raises InputError if no molecule is left, and for a foreign
        checkpoint."""
        from fusion.chemistry.constraints import names
        from fusion.tasks.thermochemistry.species import recorded

        protocol.require(method, self.needs, f"task {self.name}")
        periodic = [name for name, species in self.species.items() if any(species.system.pbc)]
        if periodic:
            raise InputError(f"{periodic[0]} is periodic; the thermochemistry of an ideal gas applies to molecules")
        for name, species in self.species.items():
            if species.system.fixed is not None:
                raise InputError(
                    f"{name} has held atoms ({' '.join(names(species.system)[:8])}): an ideal gas has free molecules; "
                    "task=vibrations gives the harmonic free energy with held atoms"
                )
        molecules = [species for species in self.species.values() if not species.is_atom]
        refusals = []
        for species in self.species.values():
            try:
                self._check_one(species)
            except InputError as error:
                species.status, species.problem = "failed", str(error)
                refusals.append(error)
            recorded(species, self.levels, run, self.name)
        if refusals and all(species.problem for species in molecules):
            raise refusals[0]

    def _check_one(self, species: Species) -> None:
        for number, level in enumerate(self.levels):
            if not species.is_atom:
                needs = self.needs if number == 0 else {"energy"}
                protocol.require(level.method, needs, f"task {self.name}", [species.system])
            elif _has_atoms(level) and not _zero_by_definition(level):
                protocol.require(level.method, {"energy"}, f"task {self.name}", [species.system])


def _listed(names: Sequence[str] | str | None) -> list[str]:
    if names is None:
        return []
    return [names] if isinstance(names, str) else [str(name) for name in names]


def _has_atoms(level: Level) -> bool:
    from fusion.chemistry import energy_zeros

    return energy_zeros.of(level.method) in (energy_zeros.TOTAL, energy_zeros.ATOMISATION)


def _zero_by_definition(level: Level) -> bool:
    from fusion.chemistry import energy_zeros

    return energy_zeros.of(level.method) == energy_zeros.ATOMISATION


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
