"""Scan of a bond, an angle or a dihedral; the other coordinates are relaxed or rigid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.chemistry.constraints import free
from fusion.config.checks import check_switch, check_whole, is_number
from fusion.errors import CalculationError, InputError
from fusion.files.atomic import write_atomically
from fusion.methods import abilities, protocol
from fusion.parallel import processes
from fusion.runs.results import Result
from fusion.runs.task import Plan, Title, Trajectory, existing_trajectories
from fusion.tasks.geometry import internal_coordinates
from fusion.tasks.scan.report import Point, lower, outcome, table, with_spreads

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.methods.recorded import Journal
    from fusion.runs.run import Run
    from fusion.tasks.geometry.internal_coordinates import InternalCoordinate

FRAMES = "scan.extxyz"
TABLE = "scan.csv"
PICTURE = "scan.png"
_MOST_POINTS = 10_000
_FULL_TURN = 360.0


@dataclass(frozen=True)
class ScanPlan(Plan):
    """Scan of `coordinate` through `values` (points,), in Angstrom or degrees."""

    coordinate: InternalCoordinate
    values: np.ndarray


class Scan:
    """Moves one internal coordinate through evenly spaced values.

    `coordinate`: bond, angle or dihedral (None: by the number of `atoms`, counted from 1); `start` (None: its present
    value) and `stop` (None: a full turn of a dihedral) in Angstrom or degrees. `relaxed`: the other atoms relax at
    every point, from the neighbouring point, until the largest force on them is below `fmax` (hartree/bohr); otherwise
    the smaller part of the molecule moves as a rigid body. `both_ways`: scan in both directions and take the lower
    energy of each point, or the first where both agree within their statistical errors; rigid scans need a method whose
    result depends on the last point, such as a wavefunction.
    """

    def __init__(
        self,
        coordinate: str | None,
        atoms: list[int] | None,
        start: float | None,
        stop: float | None,
        points: int,
        relaxed: bool = True,
        both_ways: bool = False,
        fmax: float = 1e-4,
        steps: int = 200,
        name: str = "scan",
    ) -> None:
        self.name, self._kind, self._atoms, self._start, self._stop = name, coordinate, atoms, start, stop
        self._points, self._relaxed, self._both_ways, self._fmax, self._steps = points, relaxed, both_ways, fmax, steps

    @property
    def needs(self) -> frozenset[str]:
        """Properties needed with these settings."""
        return frozenset({"energy", "forces"}) if self._relaxed else frozenset({"energy"})

    def check(self, method: Method, system: System, run: Run) -> ScanPlan:
        """Raises InputError for a coordinate that cannot be moved, a method without forces, or a foreign checkpoint."""
        from fusion.methods.recorded import resume_note

        if any(system.pbc):
            raise InputError(f"task={self.name} moves parts of molecules; {system.name} is periodic")
        if not isinstance(self._points, int) or not 2 <= self._points <= _MOST_POINTS:
            raise InputError(f"task.points must be a whole number from 2 to {_MOST_POINTS}, not {self._points}")
        if not (is_number(self._fmax) and self._fmax > 0):
            raise InputError(f"task.fmax must be a positive force in hartree/bohr, such as 1e-4, not {self._fmax}")
        check_whole("task.steps", self._steps)
        for setting, flag in (("relaxed", self._relaxed), ("both_ways", self._both_ways)):
            check_switch(f"task.{setting}", flag)
        if self._both_ways and not self._relaxed and abilities.remembering(method) is None:
            raise InputError("task.both_ways=true: a rigid scan has no history; it needs task.relaxed=true")
        coordinate = internal_coordinates.chosen(self._kind, self._atoms, system)
        values = self._values(coordinate, system)
        if not free(system)[list(coordinate.atoms)].any():
            label = internal_coordinates.label(coordinate, system.symbols)
            raise InputError(f"task.atoms: all atoms of {label} are held: the {coordinate.name} cannot change")
        if not self._relaxed:
            internal_coordinates.RigidMotion(coordinate, system)
        protocol.require(method, self.needs, f"task {self.name}", [system])
        resume_note(method, system, run, self.name)
        return ScanPlan(method, system, coordinate, values)

    def title(self, plan: ScanPlan, run: Run) -> Title:
        """Method, system and coordinate for the title, and notes on the range and a resumed run."""
        from fusion.methods.recorded import resume_note
        from fusion.runs.report import title_of

        system, coordinate, values = plan.system, plan.coordinate, plan.values
        mode = "relaxed" if self._relaxed else "rigid"
        scan = f"{mode} scan of {internal_coordinates.label(coordinate, system.symbols)}"
        span = f"{values[0]:.4g} to {values[-1]:.4g} {coordinate.unit} in {len(values)} points"
        note = resume_note(plan.method, system, run, self.name)
        present = f"now {coordinate.value(system.positions):.4g} {coordinate.unit}"
        return (plan.method.label, title_of(system), scan), (
            f"{span}; {present}",
            *((note,) if note else ()),
        )

    def run(self, plan: ScanPlan, run: Run) -> Result:
        """Return the result at the lowest point, with `scan` in its details; write scan.extxyz and scan.csv."""
        from fusion.methods.recorded import Journal

        if processes.rank() != 0:  # only the first process calculates
            return Result(plan.system)
        system, coordinate, values = plan.system, plan.coordinate, plan.values
        backward: list[Point] = []
        with Journal(plan.method, system, run, self.name) as journal:
            if not self._relaxed:
                forward = self._rigid(journal, "scanning", system, coordinate, values)
                if self._both_ways:
                    backward = self._rigid(journal, "scanning back", system, coordinate, values[::-1])[::-1]
            else:
                forward = self._walk(journal, run, "scanning", system, coordinate, values)
                last = next((p.result.system for p in reversed(forward) if p.result is not None), system)
                if self._both_ways:
                    backward = self._walk(journal, run, "scanning back", last, coordinate, values[::-1])[::-1]
            points = [lower(*pair) for pair in zip(forward, backward, strict=True)] if backward else forward
            points = with_spreads(journal, points)
        self._write(run, coordinate, points)
        return outcome(coordinate, system, points, forward, backward, self._relaxed, self._fmax)

    def _values(self, coordinate: InternalCoordinate, system: System) -> np.ndarray:
        """Values (points,) of the coordinate; those of a dihedral may go beyond 180 degrees, to keep their order."""
        for setting, value in (("start", self._start), ("stop", self._stop)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise InputError(f"task.{setting} must be a number of {coordinate.unit}, not {value!r}")
        start = coordinate.value(system.positions) if self._start is None else float(self._start)
        if self._stop is None and coordinate.period is None:
            raise InputError(f"task.stop is missing; give the last value of the {coordinate.name} in {coordinate.unit}")
        stop = start + _FULL_TURN if self._stop is None else float(self._stop)
        for value in (start, stop):
            refusal = coordinate.refusal(value) if np.isfinite(value) else f"a {coordinate.name} of {value}"
            if refusal is not None:
                raise InputError(f"task.start={start:g}, task.stop={stop:g}: {refusal}")
        if start == stop:
            raise InputError(f"task.start and task.stop are both {start:g} {coordinate.unit}: nothing would move")
        return np.linspace(start, stop, self._points)

    def _rigid(
        self, journal: Journal, title: str, system: System, coordinate: InternalCoordinate, values: np.ndarray
    ) -> list[Point]:
        """Rigid points, all in one call."""
        from fusion.console.phases import phase

        motion = internal_coordinates.RigidMotion(coordinate, system)
        systems = [system.moved(motion.to(value, system.positions)) for value in values]
        properties = self.needs | protocol.offered(journal, {"forces"}, [system])
        with phase(title, len(systems)) as bar:
            journal.watch = lambda done: bar(done, "")
            try:
                results: list[Result] = protocol.calculate(journal, systems, properties)
            except (InputError, CalculationError):  # one point failed: parts of the molecule collide
                results = [_alone(journal, system, properties) for system in systems]
            journal.watch = None
        return [
            Point(float(value), result, failure=None if result.status == "ok" else result.message or result.status)
            for value, result in zip(values, results, strict=True)
        ]

    def _walk(
        self,
        journal: Journal,
        run: Run,
        title: str,
        system: System,
        coordinate: InternalCoordinate,
        values: np.ndarray,
    ) -> list[Point]:
        """Relaxed points one after another, each from the last good geometry with the coordinate moved to its value."""
        from fusion.console.phases import phase

        points: list[Point] = []
        with phase(title, len(values)) as bar:
            for value in values:
                progress = _progress(bar, points, float(value), coordinate.unit)
                point = self._relax(journal, run, system, coordinate, float(value), progress)
                points.append(point)
                if point.result is not None:
                    system = point.result.system
                self._write(run, coordinate, points)
                bar(len(points), f"{value:.4g} {coordinate.unit}")
        return points

    def _relax(
        self,
        journal: Journal,
        run: Run,
        system: System,
        coordinate: InternalCoordinate,
        value: float,
        watch: Callable[[int, float, float], None],
    ) -> Point:
        from fusion.tasks.geometry import geometric

        start = _near(coordinate, system, value)
        with geometric.logging_to(run.directory / geometric.LOG):
            ended = geometric.constrained_minimum(journal, start, coordinate, value, self._fmax, self._steps, watch)
        failure = None if ended.converged else ended.failure or f"not converged in {ended.steps} steps"
        try:
            result = journal.at(ended.system, self.needs)
            if result.status != "ok" or result.energy is None:
                return Point(value, None, ended.steps, result.message or result.status)
        except (CalculationError, InputError) as error:
            return Point(value, None, ended.steps, failure or str(error))
        missed = abs(internal_coordinates.difference(coordinate, value, coordinate.value(result.system.positions)))
        if failure is None and missed > 0.01:
            failure = f"the coordinate stayed {missed:.2g} {coordinate.unit} away"
        return Point(value, result, ended.steps, failure)

    def _write(self, run: Run, coordinate: InternalCoordinate, points: list[Point]) -> None:
        """Write scan.extxyz and scan.csv with the points so far."""
        from fusion.tasks.geometry.structures import frame, write_frames

        frames = [
            frame(point.result, **{f"{coordinate.name}_{coordinate.key}": point.value, "converged": not point.failure})
            for point in points
            if point.result is not None
        ]
        if frames:
            write_frames(run.directory / FRAMES, frames)
        write_atomically(run.directory / TABLE, table(coordinate, points))

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """Yield the table of points, lowest and highest point, and barriers."""
        scan = document.get("scan")
        if scan:
            from fusion.tasks.ts.report import scan_rows

            yield from scan_rows(scan)

    @staticmethod
    def draw(directory: Path) -> None:
        """Draw `scan.png`."""
        from fusion.tasks.scan.plot import draw

        draw(directory / TABLE, directory / PICTURE)

    @staticmethod
    def trajectories(directory: Path) -> list[Trajectory]:
        """Structures to be looked at in turn."""
        return existing_trajectories(directory, {"points of the scan": FRAMES})

    @staticmethod
    def files(directory: Path) -> list[str]:
        """Names of the files written."""
        return [name for name in (TABLE, FRAMES) if (directory / name).is_file()]


def _alone(journal: Journal, system: System, properties: frozenset[str]) -> Result:
    """Result of one system; a failed one if the method refuses it."""
    try:
        return protocol.calculate(journal, [system], properties)[0]
    except (InputError, CalculationError) as error:
        return Result(system, "failed", message=str(error))


def _near(coordinate: InternalCoordinate, system: System, value: float) -> System:
    """The system with the coordinate moved to `value` by a rigid motion; unchanged if none is possible."""
    try:
        motion = internal_coordinates.RigidMotion(coordinate, system)
    except InputError:
        return system
    return system.moved(motion.to(value, system.positions))


def _progress(
    bar: Callable[[int, str], None], points: list[Point], value: float, unit: str
) -> Callable[[int, float, float], None]:
    done = len(points)
    return lambda step, energy, force: bar(done, f"{value:.4g} {unit}  step {step}  largest force {force:.1e} Ha/bohr")
