"""Enthalpies and free energies of atomisation, formation and reaction, against experiment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion import methods, processes
from fusion.errors import InputError
from fusion.results import Result

if TYPE_CHECKING:
    from fusion.methods import Method
    from fusion.reaction import Reaction
    from fusion.runs import Run
    from fusion.system import System
    from fusion.tasks.thermochemical.species import Level, Species

PICTURE = "thermochemistry.png"


class Thermochemistry:
    """Relaxation, harmonic frequencies and thermal corrections of every molecule of `molecules` and `reaction` (one
    text or several, as in `fusion.reaction`), then enthalpies and free energies at the temperature and pressure.

    Without both, the run's own system is the molecule. `energies` names further methods for energies at the geometries
    of the run's method. `zero_point_scale` multiplies zero-point energies only; `spin_orbit` adds measured spin-orbit
    energies to atoms. One journal per species: a run that was killed goes on where it was.
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
        from fusion.tasks.structure.relaxation import Settings
        from fusion.tasks.thermochemical.balance import Conditions

        self.name, self._molecules, self._reactions = name, _listed(molecules), _listed(reaction)
        self._entries, self._settings = energies, Settings(optimiser, fmax, steps)
        self._conditions = Conditions(temperature_k, zero_point_scale, spin_orbit)
        self._pressure_bar, self._noise_cm1, self._unit = pressure_bar, noise_cm1, unit

    def check(self, method: Method, system: System, run: Run) -> None:
        """Raises InputError: unknown molecules, unbalanced reactions, settings that make no sense, methods that can do
        none of the molecules, atoms where a method has none."""
        self._check_settings(system)
        self.levels = self._read_levels(method)
        self.reactions = self._read_reactions(run)
        self.molecules = self._read_molecules(system, run)
        self._refuse_atoms()
        self.species = self._read_species()
        self._check_species(method, run)

    def title(self, method: Any, system: System, run: Run) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Which levels, of what, and where it goes on."""
        from fusion.report import count
        from fusion.tasks.thermochemical.species import recorded

        parts = [count(len(self.molecules), "molecule")] if self.molecules else []
        parts += [count(len(self.reactions), "reaction")] if self.reactions else []
        high = ", ".join(level.label for level in self.levels[1:])
        levels = f"{high} // {self.levels[0].label}" if high else self.levels[0].label
        notes = [f"energies of {high} at geometries and frequencies of {self.levels[0].label}"] if high else []
        begun = [one.name for one in self.species.values() if recorded(one, self.levels, run, self.name)]
        notes += [f"going on with what is known of {', '.join(begun)}"] if begun else []
        notes += [f"left out: {one.name}: {one.problem}" for one in self.species.values() if one.problem]
        for one in self.species.values():
            notes += [f"{one.name}: {note}" for note in one.system.notes if note not in system.notes]
        return (levels, " and ".join(parts), self.name), tuple(notes)

    def run(self, method: Method, system: System, run: Run) -> Result:
        """All energies in `thermochemical` of the details; writes tables as it goes."""
        from fusion.phases import phase
        from fusion.task_state import write_state
        from fusion.tasks.thermochemical import species as calculations
        from fusion.tasks.vibrations import Conditions

        first = next(iter(self.species.values())).system
        if processes.rank() != 0:  # one process does it
            return Result(first)
        write_state(run, {"task": self.name, "species": list(self.species)})  # the species have checkpoints themselves
        conditions = Conditions(self._conditions.temperature_k, self._pressure_bar, None, self._noise_cm1)
        for one in self.species.values():
            if one.problem is not None:
                continue
            with phase(one.name) as bar:
                calculations.calculate(one, self.levels, self._settings, conditions, run, self.name, bar)
                bar(one.details.get("relaxation_steps", 0), _said(one))
            self._write(run)
        return self._outcome(first, run)

    def _outcome(self, system: System, run: Run) -> Result:
        from fusion.tasks.thermochemical import outcome

        found = self._write(run)
        result = Result(system, details={"thermochemical": found})
        result.message = outcome.summary(found)
        if result.message is not None:
            result.status = "not_converged"
        return result

    def _write(self, run: Run) -> dict[str, Any]:
        """The tables of what is known by now."""
        from fusion.atomic import write_atomically
        from fusion.tasks.thermochemical import outcome

        found = outcome.document(
            self.species,
            list(self.molecules),
            self.reactions,
            self.levels,
            {level.label: _has_atoms(level) for level in self.levels},
            self._conditions,
            self._pressure_bar,
        )
        found["unit"] = self._unit
        write_atomically(run.directory / outcome.TABLE, outcome.table(found, self._unit))
        write_atomically(run.directory / outcome.MARKDOWN, outcome.markdown(found, self._unit))
        return found

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """Tables of molecules and reactions."""
        from fusion.tasks.thermochemical.outcome import rows

        found = document.get("thermochemical")
        if found:
            yield from rows(found, found["unit"])

    @staticmethod
    def draw(directory: Path) -> None:
        """`thermochemistry.png`, errors against experiment, once there are any."""
        from fusion.plots.thermochemistry import draw

        draw(directory, directory / PICTURE)

    @staticmethod
    def files(directory: Path) -> list[str]:
        from fusion.tasks.thermochemical.outcome import MARKDOWN, TABLE
        from fusion.tasks.thermochemical.species import FOLDER

        names = [name for name in (TABLE, MARKDOWN) if (directory / name).is_file()]
        return [*names, f"{FOLDER}/ …"] if (directory / FOLDER).is_dir() else names

    @staticmethod
    def stands(directory: Path) -> str | None:
        """How many species an unfinished run has begun, and which one last."""
        from fusion.tasks.thermochemical.species import FOLDER

        folder = directory / FOLDER
        begun = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime) if folder.is_dir() else []
        return f"{len(begun)} species begun, the last {begun[-1].name}" if begun else None

    def _check_settings(self, system: System) -> None:
        from fusion.tasks.structure import relaxation
        from fusion.tasks.thermochemical.outcome import UNITS

        relaxation.check_settings(self._settings, system)
        for setting, value in (
            ("temperature_k", self._conditions.temperature_k),
            ("pressure_bar", self._pressure_bar),
            ("zero_point_scale", self._conditions.scale),
        ):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise InputError(f"task.{setting} must be a positive number, not {value}")
        if not 0.5 <= self._conditions.scale <= 1.5:
            raise InputError(f"task.zero_point_scale is about 1, such as 0.97; it is {self._conditions.scale}")
        if self._unit not in UNITS:
            raise InputError(f"task.unit must be {' or '.join(UNITS)}, not {self._unit!r}")

    def _read_levels(self, method: Method) -> list[Level]:
        from fusion.tasks.thermochemical.species import Level, further

        levels = [Level(str(getattr(method, "label", method.name)), method), *further(self._entries)]
        labels = [level.label for level in levels]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise InputError(f"task.energies: {twice} is there twice; the run's own method is always there")
        return levels

    def _read_reactions(self, run: Run) -> list[Reaction]:
        from fusion import reaction

        try:
            return reaction.parse_all(self._reactions, run.start_dir)
        except InputError as error:
            raise InputError(f"task.reaction: {error}") from error

    def _read_molecules(self, system: System, run: Run) -> dict[str, System]:
        """The molecules to be atomised, by name; the run's own where nothing else is asked for."""
        from fusion import reaction

        if not self._molecules and not self._reactions:
            found = {system.name: system}
        else:
            try:
                found = {name: reaction.species(name, run.start_dir) for name in self._molecules}
            except InputError as error:
                raise InputError(f"task.molecules: {error}") from error
        atoms = [name for name, one in found.items() if len(one.symbols) == 1]
        if atoms:
            raise InputError(
                f"task.molecules: {atoms[0]} is an atom; name molecules, task.molecules=[H2O,CH4], or a reaction, "
                "task.reaction='2 H2O -> 2 H2 + O2'"
            )
        return found

    def _refuse_atoms(self) -> None:
        """Raise InputError where there are atoms, of molecules or in a reaction, and no level has energies of them."""
        if any(_has_atoms(level) for level in self.levels):
            return
        lone = [term for one in self.reactions for term in one.terms if len(term.system.symbols) == 1]
        without = f"{self.levels[0].label} has no meaningful energies of single atoms"
        instead = (
            "reactions of molecules instead, task.reaction='2 H2O -> 2 H2 + O2', or energies of another method at its "
            "geometries, task.energies={method: dft}"
        )
        if self.molecules:
            raise InputError(f"{without}, so no atomisation energies or heats of formation: give {instead}")
        if lone:
            raise InputError(f"task.reaction: {lone[0].name} is an atom, and {without}: give {instead}")

    def _read_species(self) -> dict[str, Species]:
        """All molecules and atoms, each once; the atoms of molecules under their symbols."""
        from fusion import g2
        from fusion.tasks.thermochemical import balance
        from fusion.tasks.thermochemical.species import Species

        systems = dict(self.molecules)
        for reaction in self.reactions:
            systems |= {term.name: term.system for term in reaction.terms}
        symbols = dict.fromkeys(symbol for one in self.molecules.values() for symbol in one.symbols)
        systems |= {symbol: balance.atom(symbol) for symbol in symbols}
        return {name: Species(name, one, g2.recognised(one)) for name, one in systems.items()}

    def _check_species(self, method: Method, run: Run) -> None:
        """Species that the method cannot do are marked so. Raises InputError where it can do none of the molecules, and
        for a foreign checkpoint."""
        from fusion.chemistry.constraints import names
        from fusion.tasks.thermochemical.species import recorded

        methods.require(method, self.needs, f"task {self.name}")
        periodic = [name for name, one in self.species.items() if any(one.system.pbc)]
        if periodic:
            raise InputError(f"{periodic[0]} is periodic; the thermochemistry of an ideal gas is that of molecules")
        for name, one in self.species.items():
            if one.system.fixed is not None:
                raise InputError(
                    f"{name} has held atoms ({' '.join(names(one.system)[:8])}): an ideal gas is of free molecules; "
                    "task=vibrations has the harmonic free energy of what is held"
                )
        molecules = [one for one in self.species.values() if not one.is_atom]
        refusals = []
        for one in self.species.values():
            try:
                self._check_one(one)
            except InputError as error:
                one.status, one.problem = "failed", str(error)
                refusals.append(error)
            recorded(one, self.levels, run, self.name)
        if refusals and all(one.problem for one in molecules):
            raise refusals[0]

    def _check_one(self, one: Species) -> None:
        for number, level in enumerate(self.levels):
            if not one.is_atom:
                needs = self.needs if number == 0 else {"energy"}
                methods.require(level.method, needs, f"task {self.name}", [one.system])
            elif _has_atoms(level) and not _zero_by_definition(level):
                methods.require(level.method, {"energy"}, f"task {self.name}", [one.system])


def _listed(given: Sequence[str] | str | None) -> list[str]:
    if given is None:
        return []
    return [given] if isinstance(given, str) else [str(one) for one in given]


def _has_atoms(level: Level) -> bool:
    from fusion import zeros

    return zeros.of(level.method) in (zeros.TOTAL, zeros.ATOMISATION)


def _zero_by_definition(level: Level) -> bool:
    from fusion import zeros

    return zeros.of(level.method) == zeros.ATOMISATION


def _said(one: Species) -> str:
    """The end of a species' line."""
    from fusion import units

    if one.problem is not None:
        return f"LEFT OUT: {one.problem}"
    values = [f"{energy.value:.6f}" if energy.value is not None else "none" for energy in one.energies.values()]
    text = f"E = {', '.join(values)} Ha" if values else "no energy"
    return text if one.is_atom else f"{text}  zero-point {one.zero_point * units.KCAL_MOL_PER_HARTREE:.2f} kcal/mol"
