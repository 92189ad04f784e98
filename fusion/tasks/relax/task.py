"""Relaxation of the atoms, and of the cell on request, to a minimum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.errors import InputError
from fusion.methods import protocol
from fusion.parallel import processes
from fusion.runs.results import Result
from fusion.runs.task import StartPlan, Title, Trajectory, existing_trajectories
from fusion.tasks.relax import relaxation, report
from fusion.tasks.relax.relaxation import PICTURE, STRUCTURE, TRAJECTORY, Settings
from fusion.tasks.structures import task as structures_task
from fusion.tasks.structures.task import StructuresTask

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.methods.recorded import Journal
    from fusion.runs.run import Run
    from fusion.tasks.relax.stochastic import Descent


class Relax:
    """Relaxation with one of ASE's optimisers, or to the noise of forces that have error bars
    (`fusion.tasks.relax.stochastic`); an interrupted run can be resumed.

    `fmax`: force threshold per atom, hartree/bohr; with `cell` also for the derivatives by the cell as scaled by ASE's
    FrechetCellFilter. `fixed`: atoms to hold, counted from 1, in addition to those held by the structure file.
    """

    def __init__(
        self,
        optimiser: Mapping[str, Any],
        fmax: float,
        steps: int,
        cell: bool = False,
        pressure_gpa: float = 0.0,
        fixed: Sequence[int] | None = None,
        name: str = "relax",
    ) -> None:
        self.name, self._fixed = name, fixed
        self._settings = Settings(optimiser, fmax, steps, cell, pressure_gpa)

    @property
    def needs(self) -> frozenset[str]:
        """Properties needed with these settings."""
        return self._settings.needs

    def check(self, method: Method, system: System, run: Run) -> StartPlan:
        """Plan the relaxation with the atoms of `fixed` held as well.

        Raises InputError for wrong settings, a method without forces, or a foreign checkpoint.
        """
        from fusion.methods.recorded import resume_note

        start = self._held(system)
        relaxation.check_settings(self._settings, start)
        needs = self.needs | ({"forces_stderr"} if protocol.has_noisy_forces(method) else set())
        protocol.require(method, needs, f"task {self.name}", [start], error_bars=True)
        resume_note(method, start, run, self.name)
        return StartPlan(method, system, start)

    def of_set(self) -> StructuresTask:
        """Return the task for many structures, which are relaxed together. Raises InputError for wrong settings."""
        from fusion.tasks.relax.together import Relaxations

        relaxation.check_numbers(self._settings)
        if self._fixed:
            raise InputError("task.fixed is for one structure; a file may hold atoms of each of many structures")
        return StructuresTask(self.name, Relaxations(self._settings, f"task {self.name}"))

    def title(self, plan: StartPlan, run: Run) -> Title:
        """Method, system and thresholds for the title, and notes on held atoms and a resumed run."""
        from fusion.console.format import count
        from fusion.methods.recorded import resume_note
        from fusion.runs.report import title_of

        noisy = protocol.has_noisy_forces(plan.method)
        described = report.describe(self._settings) + (", or to the noise of the forces" if noisy else "")
        parts = (plan.method.label, title_of(plan.system), described)
        number = len(self._fixed or ())
        held = f"task.fixed holds {count(number, 'atom')}" if number else None
        remark = "the forces have error bars: steps of fixed length, without task.optimiser" if noisy else None
        notes = (remark, held, resume_note(plan.method, plan.start, run, self.name))
        return parts, tuple(note for note in notes if note)

    def run(self, plan: StartPlan, run: Run) -> Result:
        """Return the last geometry's result, with `relaxation` in its details; write relax.extxyz and relaxed.xyz."""
        from fusion.methods.recorded import Journal
        from fusion.tasks.geometry.structures import write_structure

        if processes.rank() != 0:  # only the first process calculates
            return Result(plan.system)
        with Journal(plan.method, plan.start, run, self.name) as journal:
            if protocol.has_noisy_forces(plan.method):
                from fusion.tasks.relax import stochastic_report

                return stochastic_report.outcome(descended(journal, plan.start, self._settings, run), self._settings)
            relaxed = relaxation.relax(journal, plan.start, self._settings, run.directory / TRAJECTORY)
        write_structure(run.directory / STRUCTURE, relaxed.result)
        return report.outcome(relaxed, run)

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """Yield the changes of energy, positions and cell, and bonds with errors."""
        from fusion.tasks.relax import stochastic_report

        if "structures" in document:
            yield from structures_task.rows(document)
        yield from report.rows(document.get("relaxation") or {})
        yield from stochastic_report.rows(document.get("relaxation") or {})

    @staticmethod
    def draw(directory: Path) -> None:
        """Draw `relaxation.png`, as soon as there are two steps."""
        from fusion.tasks.relax.plot import draw

        draw(directory / TRAJECTORY, directory / PICTURE)

    @staticmethod
    def trajectories(directory: Path) -> list[Trajectory]:
        """Structures to be looked at in turn."""
        return [*existing_trajectories(directory, {"relaxation": TRAJECTORY}), *structures_task.trajectories(directory)]

    @staticmethod
    def files(directory: Path) -> list[str]:
        """Names of the files written."""
        own = [name for name in (STRUCTURE, TRAJECTORY) if (directory / name).is_file()]
        return [*own, *structures_task.files(directory)]

    def _held(self, system: System) -> System:
        """The system with the atoms of `fixed` held as well."""
        from fusion.chemistry.constraints import hold
        from fusion.tasks.geometry.structures import atom_indices

        return hold(system, atom_indices(self._fixed, system, "task.fixed"))


def descended(journal: Journal, start: System, settings: Settings, run: Run) -> Descent:
    """Relax with forces that have error bars; write relax.extxyz and relaxed.xyz."""
    from fusion.console.phases import phase
    from fusion.tasks.geometry.structures import write_structure
    from fusion.tasks.relax import stochastic

    with phase("relaxing") as bar:
        path, watch = run.directory / TRAJECTORY, relaxation.shown(bar)
        descent = stochastic.descend(journal, start, settings.fmax, settings.steps, path, watch)
    write_structure(run.directory / STRUCTURE, descent.points[-1].result)
    return descent
