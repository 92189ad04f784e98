"""Search for transition states from two minima (nudged elastic band) or from a guess; barriers and reaction paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.config.checks import check_number, check_switch, check_whole, is_number
from fusion.errors import CalculationError, InputError
from fusion.methods import protocol
from fusion.parallel import processes
from fusion.runs.results import Result
from fusion.runs.task import Plan, Title, Trajectory, existing_trajectories
from fusion.tasks.relax import relaxation as relaxing
from fusion.tasks.relax.report import rmsd, why_not
from fusion.tasks.ts.outcome import describe_path, no_barrier, outcome

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.methods.recorded import Journal
    from fusion.runs.run import Run
    from fusion.tasks.ts.neb import Path as BandPath
    from fusion.tasks.ts.saddle import Saddle

ENDS = {"reactant": "reactant.xyz", "product": "product.xyz"}
BAND = "path.extxyz"
STRUCTURE = "ts.xyz"
MODE = "ts_mode.xyz"
_FILES = (STRUCTURE, MODE, BAND, *ENDS.values(), "irc.extxyz", "irc_backward.xyz", "irc_forward.xyz")


@dataclass(frozen=True)
class Limits:
    """Thresholds and limits of the searches: forces in hartree/bohr, `noise_cm1` as in vibrations."""

    fmax: float
    steps: int
    path_fmax: float
    path_steps: int
    images: int
    hessian_every: int
    noise_cm1: float
    irc_steps: int

    def check(self) -> None:
        """Raises InputError for values without meaning."""
        for setting in ("fmax", "path_fmax"):
            force = getattr(self, setting)
            if not (is_number(force) and force > 0):
                raise InputError(f"task.{setting} must be a positive force in hartree/bohr, not {force}")
        for setting, least in (("steps", 1), ("path_steps", 1), ("images", 3), ("hessian_every", 1), ("irc_steps", 1)):
            check_whole(f"task.{setting}", getattr(self, setting), least)
        check_number("task.noise_cm1", self.noise_cm1)


@dataclass(frozen=True)
class SearchPlan(Plan):
    """Search from the system, by a band to `product` if it is given, or from `guess`."""

    product: System | None
    guess: System | None


class TransitionState:
    """Finds a transition state and proves it by exactly one imaginary mode.

    `product`: a structure file with the system's atoms in the same order. The system is then the reactant, both are
    relaxed (`relax_ends`), and the search begins at the top of a nudged elastic band of `images` structures between
    them. Without it the search begins at the structure file `guess`, or at the system itself. `irc`: follow the path
    down both sides and name the minima it connects. `zero_point`: also give barriers with zero-point energies, for
    which the Hessians of the minima are calculated.
    """

    needs = frozenset({"energy", "forces", "hessian"})

    def __init__(
        self,
        product: str | None,
        guess: str | None,
        relax_ends: bool,
        optimiser: Mapping[str, Any],
        fmax: float,
        steps: int,
        images: int = 11,
        path_fmax: float = 2e-3,
        path_steps: int = 300,
        hessian_every: int = 25,
        noise_cm1: float = 20.0,
        irc: bool = False,
        irc_steps: int = 200,
        zero_point: bool = True,
        name: str = "ts",
    ) -> None:
        self.name, self._product, self._guess, self._irc, self._zero_point = name, product, guess, irc, zero_point
        self._relax_ends, self._settings = relax_ends, relaxing.Settings(optimiser, fmax, steps)
        self._limits = Limits(fmax, steps, path_fmax, path_steps, images, hessian_every, noise_cm1, irc_steps)

    def check(self, method: Method, system: System, run: Run) -> SearchPlan:
        """Raises InputError for wrong settings, structures that do not fit together, a method without forces, or a
        foreign checkpoint."""
        from fusion.methods.recorded import resume_note

        self._limits.check()
        flags = {"relax_ends": self._relax_ends, "irc": self._irc, "zero_point": self._zero_point}
        for setting, flag in flags.items():
            check_switch(f"task.{setting}", flag)
        if self._irc and any(system.pbc):
            raise InputError(f"task.irc=true is for molecules; {system.name} is periodic")
        relaxing.check_settings(self._settings, system)
        if len(system.symbols) < 3:
            raise InputError(f"task={self.name} needs at least 3 atoms; {system.name} has {len(system.symbols)}")
        product, guess = self._others(system, run)
        systems = [system, *(other for other in (product, guess) if other is not None)]
        protocol.require(method, self.needs, f"task {self.name}", systems)
        resume_note(method, system, run, self.name)
        return SearchPlan(method, system, product, guess)

    def title(self, plan: SearchPlan, run: Run) -> Title:
        """Method and system for the title, and notes on the start of the search and a resumed run."""
        from fusion.methods.recorded import resume_note
        from fusion.runs.report import title_of

        if self._product is not None:
            steps = f"band of {self._limits.images} images to {Path(self._product).name}, then saddle search"
        else:
            steps = f"saddle search from {Path(self._guess).name if self._guess else plan.system.name}"
        note = resume_note(plan.method, plan.system, run, self.name)
        parts = (plan.method.label, f"transition state of {title_of(plan.system)}")
        return parts, (steps, *((note,) if note else ()))

    def run(self, plan: SearchPlan, run: Run) -> Result:
        """Return the result at the transition state, with `transition_state`, `path` and `irc` in its details; write
        ts.xyz, ts_mode.xyz, path.extxyz, and the minima."""
        from fusion.methods.recorded import Journal
        from fusion.tasks.geometry import geometric
        from fusion.tasks.geometry.structures import write_structure
        from fusion.tasks.ts import saddle
        from fusion.tasks.ts.barriers import barriers

        if processes.rank() != 0:  # only the first process calculates
            return Result(plan.system)
        system, product, guess = plan.system, plan.product, plan.guess
        limits, log = self._limits, run.directory / geometric.LOG
        log.unlink(missing_ok=True)
        details: dict[str, Any] = {}
        minima: dict[str, System] = {}
        with Journal(plan.method, system, run, self.name) as journal:
            path = None
            if product is not None:
                path = self._path(journal, run, system, product)
                minima = {"reactant": path.results[0].system, "product": path.results[-1].system}
                details["path"] = describe_path(path, journal) | {"ends_fmax_hartree_per_bohr": limits.fmax}
                if path.top in (0, len(path.results) - 1):
                    return no_barrier(path, details)
                start = guess or path.results[path.top].system
            else:
                start = guess or system
            transition_state = saddle.search(
                journal, start, limits.fmax, limits.steps, limits.hessian_every, limits.noise_cm1, log
            )
            write_structure(run.directory / STRUCTURE, transition_state.result)
            saddle.write_mode(run.directory / MODE, transition_state)
            details["transition_state"] = saddle.describe(transition_state)
            ends: tuple[Result, Result] | None = None
            if path is not None:
                ends = path.results[0], path.results[-1]
                shift = rmsd(path.results[path.top].system, transition_state.result.system)
                details["transition_state"]["shift_from_path_angstrom"] = shift
            if self._irc and transition_state.failure is None:
                details["irc"], *irc_ends = descend(
                    journal, transition_state, limits.irc_steps, self._settings, log, minima, run
                )
                ends = ends or (irc_ends[0], irc_ends[1])
            if ends is not None and transition_state.failure is None:
                details["barriers"] = barriers(
                    journal, ends[0], transition_state, ends[1], limits.noise_cm1, self._zero_point
                )
        return outcome(transition_state, details)

    def _path(self, journal: Journal, run: Run, system: System, product: System) -> BandPath:
        """Relax both ends and the band between them; write them to files."""
        from fusion.console.phases import phase
        from fusion.console.units import relative
        from fusion.tasks.geometry.structures import frame, write_frames, write_structure
        from fusion.tasks.ts.neb import Band
        from fusion.tasks.ts.reaction_path import same

        ends = []
        for (name, file), start in zip(ENDS.items(), (system, product), strict=True):
            ends.append(self._end(journal, run, start, name))
            write_structure(run.directory / file, ends[-1])
        if same(ends[0].system, ends[1].system):
            raise CalculationError("reactant and product relax to the same structure: there is no barrier between them")
        with phase("path") as bar:
            zero = ends[0].energy or 0.0

            def watch(step: int, top: float, force: float) -> None:
                bar(step, f"top at {relative(top - zero)}  largest force {force:.1e} Ha/bohr")

            band = Band(journal, ends[0], ends[1], self._limits.images)
            path = band.relax(self._limits.path_fmax, self._limits.path_steps, watch)
        frames = [
            frame(result, path_angstrom=float(length))
            for result, length in zip(path.results, path.lengths, strict=True)
        ]
        write_frames(run.directory / BAND, frames)
        return path

    def _end(self, journal: Journal, run: Run, system: System, name: str) -> Result:
        if not self._relax_ends:
            return journal.at(system, {"energy", "forces"})
        relaxed = relaxing.relax(journal, system, self._settings)
        if relaxed.failure is not None or not relaxed.converged:
            raise CalculationError(f"{name}: {relaxed.failure or why_not(relaxed, run)}")
        return relaxed.result

    def _others(self, system: System, run: Run) -> tuple[System | None, System | None]:
        """Product and guess, each None if it is not given. Raises InputError."""
        return tuple(
            None if path is None else matching(path, system, run, f"task.{setting}")
            for setting, path in (("product", self._product), ("guess", self._guess))
        )  # type: ignore[return-value]

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """Yield the imaginary mode, barriers, and the minima that the path connects."""
        from fusion.tasks.ts.report import reaction_rows

        yield from reaction_rows(document)

    @staticmethod
    def draw(directory: Path) -> None:
        """Draw `path.png` of the band and `irc.png` of the reaction path."""
        from fusion.tasks.ts.plot import draw_band, draw_irc

        draw_band(directory, directory / "path.png")
        draw_irc(directory, directory / "irc.png")

    @staticmethod
    def trajectories(directory: Path) -> list[Trajectory]:
        """Structures to be looked at in turn."""
        paths = existing_trajectories(directory, {"path": BAND, "reaction path": "irc.extxyz"})
        mode = [Trajectory("imaginary mode", directory / MODE, mode=True)] if (directory / MODE).is_file() else []
        return [*mode, *paths]

    @staticmethod
    def files(directory: Path) -> list[str]:
        """Names of the files written."""
        return [name for name in _FILES if (directory / name).is_file()]


def matching(path: str, system: System, run: Run, setting: str) -> System:
    """Read a structure with the system's atoms in the same order, and held atoms at the same positions.

    Raises InputError.
    """
    import numpy as np

    from fusion.chemistry import ase_constraints, constraints
    from fusion.chemistry.formulas import formula
    from fusion.chemistry.structure_files import read_file
    from fusion.chemistry.structures import in_state_of

    try:
        atoms = read_file(path, None, run.start_dir)
    except InputError as error:
        raise InputError(f"{setting}: {str(error).removeprefix('system.path: ')}") from None
    name, symbols = Path(path).name, atoms.get_chemical_symbols()
    if formula(symbols) != system.formula:
        raise InputError(f"{setting}: {name} is {formula(symbols)}, the system {system.formula}; give the same atoms")
    for number, (expected, actual) in enumerate(zip(system.symbols, symbols, strict=True), start=1):
        if expected != actual:
            raise InputError(
                f"{setting}: atom {number} is {expected} in the system and {actual} in {name}; "
                "both need the same order of atoms"
            )
    try:
        other = replace(in_state_of(atoms, system, name), name=Path(path).stem)
    except InputError as error:
        raise InputError(f"{setting}: {error}") from None
    if other.pbc != system.pbc:
        raise InputError(f"{setting}: {name} and the system must be periodic in the same directions")
    held = ase_constraints.held(atoms, name)
    if held is not None and not np.array_equal(held, ~constraints.free(system)):
        raise InputError(f"{setting}: {name} and the system must hold the same atoms")
    elsewhere = constraints.elsewhere(system, other.positions)
    if elsewhere:
        raise InputError(f"{setting}: {' '.join(elsewhere[:8])} are held, but have other positions in {name}")
    return replace(other, positions=constraints.placed(system, other.positions))


def descend(
    journal: Journal,
    saddle: Saddle,
    steps: int,
    settings: relaxing.Settings,
    log: Path,
    minima: dict[str, System],
    run: Run,
) -> tuple[dict[str, Any], Result, Result]:
    """Follow the reaction path down both sides and write irc.extxyz.

    Returns the details for `result.json`, and the minima at the ends; a reactant among the known `minima` comes first.
    """
    from fusion.tasks.ts import reaction_path

    backward, forward = reaction_path.follow(journal, saddle, steps, settings, log)
    if minima and reaction_path.same(forward.end.result.system, minima["reactant"]):
        backward, forward = forward, backward
    reaction_path.write(run.directory, backward, forward)
    return reaction_path.describe(backward, forward, minima), backward.end.result, forward.end.result
