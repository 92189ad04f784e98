"""Move the atoms, and the cell if asked, to where no force is left on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion import methods, processes
from fusion.results import Result
from fusion.tasks.structure import relaxation
from fusion.tasks.structure.relaxation import PICTURE, STRUCTURE, TRAJECTORY, Settings

if TYPE_CHECKING:
    from fusion.methods import Method
    from fusion.runs import Run
    from fusion.system import System


class Relax:
    """Relaxation with one of ASE's optimisers; goes on from a kill where it was.

    `fmax`: the largest force left on an atom, hartree/bohr; with `cell` also the largest derivative by the cell as
    ASE's FrechetCellFilter scales it. `fixed`: atoms, counted from 1, that stay where they are, beside those that the
    structure file holds.
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
        return self._settings.needs

    def check(self, method: Method, system: System, run: Run) -> None:
        """Raises InputError: settings that make no sense, a method without forces, a foreign checkpoint."""
        from fusion.tasks.interruption.journal import going_on

        system = self._held(system)
        relaxation.check_settings(self._settings, system)
        methods.require(method, self.needs, f"task {self.name}", [system])
        going_on(method, system, run, self.name)

    def title(self, method: Any, system: System, run: Run) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What is relaxed, how, and how far."""
        from fusion.report import count, title_of
        from fusion.tasks.interruption.journal import going_on

        parts = (getattr(method, "label", method.name), title_of(system), relaxation.describe(self._settings))
        number = len(self._fixed or ())
        asked = f"task.fixed holds {count(number, 'atom')}" if number else None
        return parts, tuple(note for note in (asked, going_on(method, system, run, self.name)) if note)

    def run(self, method: Method, system: System, run: Run) -> Result:
        """The result at the last geometry, with `relaxation` in its details; writes relax.extxyz and relaxed.xyz."""
        from fusion.tasks.interruption.journal import Journal
        from fusion.tasks.structure.geometry import write_structure

        if processes.rank() != 0:  # one process does it
            return Result(system)
        system = self._held(system)
        with Journal(method, system, run, self.name) as journal:
            relaxed = relaxation.relax(journal, system, self._settings, run.directory / TRAJECTORY)
        write_structure(run.directory / STRUCTURE, relaxed.result)
        return relaxation.outcome(relaxed, run)

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """How far the atoms and the energy went."""
        yield from relaxation.rows(document.get("relaxation") or {})

    @staticmethod
    def draw(directory: Path) -> None:
        """`relaxation.png`, as soon as there are two steps."""
        from fusion.plots.relaxation import draw

        draw(directory / TRAJECTORY, directory / PICTURE)

    @staticmethod
    def files(directory: Path) -> list[str]:
        return [name for name in (STRUCTURE, TRAJECTORY) if (directory / name).is_file()]

    def _held(self, system: System) -> System:
        """The system with the atoms of `fixed` held as well."""
        from fusion.chemistry.constraints import hold
        from fusion.tasks.structure.geometry import atom_indices

        return hold(system, atom_indices(self._fixed, system, "task.fixed"))
