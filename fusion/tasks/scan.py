"""Energies along a bond, an angle or a dihedral, the other atoms relaxed or rigid."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion import methods, processes, units
from fusion.errors import CalculationError, InputError
from fusion.results import Result, write_atomically
from fusion.tasks import internal_coordinate

if TYPE_CHECKING:
    from fusion.methods import Method
    from fusion.runs import Run
    from fusion.system import System
    from fusion.tasks.internal_coordinate import InternalCoordinate
    from fusion.tasks.journal import Journal

FRAMES = "scan.extxyz"
TABLE = "scan.csv"
PICTURE = "scan.png"
_MOST_POINTS = 10_000
_FULL_TURN = 360.0


@dataclass(frozen=True)
class Point:
    """One point: where the coordinate was asked to be, the result there (None where even the first calculation failed),
    how many steps the other atoms took and, if they did not come to rest, why."""

    value: float
    result: Result | None
    steps: int = 0
    failure: str | None = None
    spread: float | None = None
    """Of an ensemble's members, of the energy relative to the lowest point, hartree."""

    @property
    def energy(self) -> float | None:
        return None if self.result is None else self.result.energy


class Scan:
    """Move one internal coordinate through evenly spaced values.

    `coordinate`: bond, angle or dihedral (None: by the number of `atoms`, counted from 1); `start` (None: where it is)
    and `stop` (None: a full turn of a dihedral) in Angstrom or degrees; `relaxed`: the other atoms relax at every point
    until the largest force on them is below `fmax` (hartree/bohr), beginning from the neighbouring point; else the
    smaller part of the molecule moves as a rigid body. `both_ways`: back again as well, and the lower energy counts.
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
        return frozenset({"energy", "forces"}) if self._relaxed else frozenset({"energy"})

    def check(self, method: Method, system: System, run: Run) -> None:
        """Raises InputError: a coordinate that cannot be or be moved, a method without forces, a foreign checkpoint."""
        from fusion.tasks.journal import going_on

        if any(system.pbc):
            raise InputError(f"task={self.name} moves parts of molecules; {system.name} is periodic")
        if not isinstance(self._points, int) or not 2 <= self._points <= _MOST_POINTS:
            raise InputError(f"task.points must be a whole number from 2 to {_MOST_POINTS}, not {self._points}")
        if not self._fmax > 0:
            raise InputError(f"task.fmax must be a positive force in hartree/bohr, such as 1e-4, not {self._fmax}")
        if not isinstance(self._steps, int) or self._steps < 1:
            raise InputError(f"task.steps must be a whole number of at least 1, not {self._steps}")
        for setting, flag in (("relaxed", self._relaxed), ("both_ways", self._both_ways)):
            if not isinstance(flag, bool):
                raise InputError(f"task.{setting} is true or false, not {flag!r}")
        if self._both_ways and not self._relaxed:
            raise InputError("task.both_ways=true: a rigid scan has no history; it needs task.relaxed=true")
        coordinate = internal_coordinate.chosen(self._kind, self._atoms, system)
        self._values(coordinate, system)
        if not self._relaxed:
            internal_coordinate.RigidMotion(coordinate, system)
        methods.require(method, self.needs, f"task {self.name}", [system])
        going_on(method, system, run, self.name)

    def title(self, method: Any, system: System, run: Run) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What is moved, from where to where."""
        from fusion.report import system_title
        from fusion.tasks.journal import going_on

        described = system_title(system.formula, system.n_electrons, system.spin, system.charge)
        coordinate = internal_coordinate.chosen(self._kind, self._atoms, system)
        values = self._values(coordinate, system)
        how = "relaxed" if self._relaxed else "rigid"
        what = f"{how} scan of {internal_coordinate.label(coordinate, system.symbols)}"
        span = f"{values[0]:.4g} to {values[-1]:.4g} {coordinate.unit} in {len(values)} points"
        note = going_on(method, system, run, self.name)
        here = f"now {coordinate.value(system.positions):.4g} {coordinate.unit}"
        return (getattr(method, "title", method.name), described, what), (f"{span}; {here}", *((note,) if note else ()))

    def run(self, method: Method, system: System, run: Run) -> Result:
        """The result at the lowest point, with `scan` in its details; writes scan.extxyz and scan.csv."""
        from fusion.tasks.journal import Journal

        if processes.rank() != 0:  # one process does it
            return Result(system)
        coordinate = internal_coordinate.chosen(self._kind, self._atoms, system)
        values = self._values(coordinate, system)
        back: list[Point] = []
        with Journal(method, system, run, self.name) as journal:
            if not self._relaxed:
                there = self._rigid(journal, system, coordinate, values)
            else:
                there = self._walk(journal, run, "scanning", system, coordinate, values)
                last = next((p.result.system for p in reversed(there) if p.result is not None), system)
                if self._both_ways:
                    back = self._walk(journal, run, "and back", last, coordinate, values[::-1])[::-1]
            points = [_lower(*pair) for pair in zip(there, back, strict=True)] if back else there
            points = _with_spreads(journal, points)
        self._write(run, coordinate, points)
        return self._outcome(coordinate, system, points, there, back)

    def _values(self, coordinate: InternalCoordinate, system: System) -> np.ndarray:
        """Values (points,) of the coordinate; those of a dihedral may go beyond 180 degrees, to keep their order."""
        for setting, given in (("start", self._start), ("stop", self._stop)):
            if given is not None and (isinstance(given, bool) or not isinstance(given, (int, float))):
                raise InputError(f"task.{setting} must be a number of {coordinate.unit}, not {given!r}")
        start = coordinate.value(system.positions) if self._start is None else float(self._start)
        if self._stop is None and coordinate.period is None:
            raise InputError(f"task.stop: where should the {coordinate.name} go, in {coordinate.unit}?")
        stop = start + _FULL_TURN if self._stop is None else float(self._stop)
        for value in (start, stop):
            refusal = coordinate.refusal(value) if np.isfinite(value) else f"a {coordinate.name} of {value}"
            if refusal is not None:
                raise InputError(f"task.start={start:g}, task.stop={stop:g}: {refusal}")
        if start == stop:
            raise InputError(f"task.start and task.stop are both {start:g} {coordinate.unit}: nothing would move")
        return np.linspace(start, stop, self._points)

    def _rigid(
        self, journal: Journal, system: System, coordinate: InternalCoordinate, values: np.ndarray
    ) -> list[Point]:
        """All points in one call."""
        from fusion.phases import phase

        motion = internal_coordinate.RigidMotion(coordinate, system)
        systems = [system.moved(motion.to(value, system.positions)) for value in values]
        wanted = self.needs | (methods.available(journal.method) & {"forces"})
        with phase("scanning", len(systems)) as bar:
            journal.watch = lambda done: bar(done, "")
            results = methods.calculate(journal, systems, wanted)
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
        """Relaxed points one after another, each from the last good geometry with the coordinate moved on."""
        from fusion.phases import phase

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
        from fusion.tasks import geometric_engine

        start = _near(coordinate, system, value)
        with geometric_engine.talking_into(run.directory / geometric_engine.LOG):
            ended = geometric_engine.constrained_minimum(
                journal, start, coordinate, value, self._fmax, self._steps, watch
            )
        failure = None if ended.converged else ended.failure or f"not converged in {ended.steps} steps"
        try:
            result = journal.at(ended.system, self.needs)
            if result.status != "ok" or result.energy is None:
                return Point(value, None, ended.steps, result.message or result.status)
        except (CalculationError, InputError) as error:
            return Point(value, None, ended.steps, failure or str(error))
        missed = abs(internal_coordinate.difference(coordinate, value, coordinate.value(result.system.positions)))
        if failure is None and missed > 0.01:
            failure = f"the coordinate stayed {missed:.2g} {coordinate.unit} away"
        return Point(value, result, ended.steps, failure)

    def _write(self, run: Run, coordinate: InternalCoordinate, points: list[Point]) -> None:
        """scan.extxyz and scan.csv of the points so far."""
        from fusion.tasks.geometry import frame, write_frames

        frames = [
            frame(point.result, **{f"{coordinate.name}_{coordinate.key}": point.value, "converged": not point.failure})
            for point in points
            if point.result is not None
        ]
        if frames:
            write_frames(run.directory / FRAMES, frames)
        write_atomically(run.directory / TABLE, _table(coordinate, points))

    def _outcome(
        self,
        coordinate: InternalCoordinate,
        system: System,
        points: list[Point],
        there: list[Point],
        back: list[Point],
    ) -> Result:
        """The lowest converged point's result with the scan in its details; status by all points."""
        if all(point.energy is None for point in points):
            raise CalculationError(f"no point of the scan has an energy: {points[0].failure}")
        lowest = min(_trusted(points), key=_energy)
        assert lowest.result is not None
        details = describe(coordinate, system, points, self._relaxed)
        if back:
            details["scan"] |= _hysteresis(coordinate, there, back)
        result = lowest.result
        failed = [point for point in points if point.failure is not None]
        status, message = "ok", result.message
        if failed:
            status = "not_converged"
            where = ", ".join(f"{point.value:.4g}" for point in failed[:5]) + (" ..." if len(failed) > 5 else "")
            message = f"{len(failed)} of {len(points)} points, at {where} {coordinate.unit}: {failed[0].failure}"
        else:
            how = f"largest force of every point below {self._fmax:g} Ha/bohr" if self._relaxed else "rigid points"
            details["scan"]["verdict"] = how
            message = _noted(points, coordinate)
        energy, spread = result.energy, result.energy_std
        properties, more = dict(result.properties), result.details | details
        return Result(result.system, status, energy, result.energy_stderr, spread, properties, more, message)

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """The table of points, lowest and highest point, barriers."""
        scan = document.get("scan")
        if scan:
            from fusion.tasks.profile_report import scan_rows

            yield from scan_rows(scan)

    @staticmethod
    def draw(directory: Path) -> None:
        """`scan.png`."""
        from fusion.plots.scan import draw

        draw(directory / TABLE, directory / PICTURE)

    @staticmethod
    def files(directory: Path) -> list[str]:
        return [name for name in (TABLE, FRAMES) if (directory / name).is_file()]


def describe(coordinate: InternalCoordinate, system: System, points: list[Point], relaxed: bool) -> dict[str, Any]:
    """What `result.json` says of a scan; energies of points without one are null."""
    lowest, highest = min(_trusted(points), key=_energy), max(_trusted(points), key=_energy)
    scan: dict[str, Any] = {
        "coordinate": coordinate.name,
        "atoms": [index + 1 for index in coordinate.atoms],
        "label": internal_coordinate.label(coordinate, system.symbols),
        "unit": coordinate.unit,
        "relaxed": relaxed,
        f"values_{coordinate.key}": [point.value for point in points],
        "energies_hartree": [point.energy for point in points],
        "converged": [point.failure is None for point in points],
        "failures": {f"{point.value:g}": point.failure for point in points if point.failure},
        "steps": [point.steps for point in points],
        "minimum": _place(coordinate, lowest),
        "maximum": _place(coordinate, highest),
        "barrier_hartree": _energy(highest) - _energy(lowest),
        "stationary": _stationary(coordinate, points),
    }
    spreads = [None if point.result is None else point.result.energy_std for point in points]
    if any(spread is not None for spread in spreads):
        scan["energies_std_hartree"] = spreads
    errors = [None if point.result is None else point.result.energy_stderr for point in points]
    if any(error is not None for error in errors):
        scan["energies_stderr_hartree"] = errors
    if lowest.spread is not None:
        scan["relative_std_hartree"] = [point.spread for point in points]
        scan["barrier_std_hartree"] = highest.spread
    return {"scan": scan}


def _noted(points: list[Point], coordinate: InternalCoordinate) -> str | None:
    """What the method had to say of points that did converge, such as that they are unlike its training data."""
    said = [
        (point.value, point.result.message) for point in points if point.result is not None and point.result.message
    ]
    if not said:
        return None
    where = ", ".join(f"{value:.4g}" for value, _ in said[:5]) + (" ..." if len(said) > 5 else "")
    return f"{len(said)} of {len(points)} points, at {where} {coordinate.unit}: {said[0][1]}"


def _stationary(coordinate: InternalCoordinate, points: list[Point]) -> list[dict[str, Any]]:
    """Points that are lower, or higher, than both their neighbours; a full turn has no ends."""
    energies = [point.energy if point.failure is None else None for point in points]
    turn = coordinate.period is not None and abs(abs(points[-1].value - points[0].value) - coordinate.period) < 1e-6
    number = len(points) - 1 if turn else len(points)
    found = []
    for index in range(0 if turn else 1, number if turn else number - 1):
        before, here, after = energies[(index - 1) % number], energies[index], energies[(index + 1) % number]
        if before is None or here is None or after is None:
            continue
        if here < before and here <= after:
            found.append({"kind": "minimum", **_place(coordinate, points[index])})
        elif here > before and here >= after:
            found.append({"kind": "maximum", **_place(coordinate, points[index])})
    return found


def _with_spreads(journal: Journal, points: list[Point]) -> list[Point]:
    """The points with the spread of an ensemble's members, if it is one."""
    from fusion.tasks.spread import member_energies, spreads_of_differences

    known = [point for point in points if point.result is not None and point.energy is not None]
    members = member_energies(journal, [point.result.system for point in known if point.result is not None])
    if members is None:
        return points
    zero = known.index(min(_trusted(known), key=_energy))
    spreads = dict(zip(map(id, known), spreads_of_differences(members, zero).tolist(), strict=True))
    return [replace(point, spread=spreads.get(id(point))) for point in points]


def _hysteresis(coordinate: InternalCoordinate, there: list[Point], back: list[Point]) -> dict[str, Any]:
    """How far the way back is from the way there: zero where every point finds the same minimum of the other atoms."""
    pairs = [(one, other) for one, other in zip(there, back, strict=True) if not one.failure and not other.failure]
    details: dict[str, Any] = {
        "forward_hartree": [point.energy for point in there],
        "backward_hartree": [point.energy for point in back],
    }
    if pairs:
        widest = max(pairs, key=lambda pair: abs(_energy(pair[0]) - _energy(pair[1])))
        details["hysteresis_hartree"] = abs(_energy(widest[0]) - _energy(widest[1]))
        details[f"hysteresis_at_{coordinate.key}"] = widest[0].value
    return details


def _table(coordinate: InternalCoordinate, points: list[Point]) -> str:
    """scan.csv: a row per point; energies relative to the lowest converged one."""
    zero = min((_energy(point) for point in _trusted(points)), default=float("nan"))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = ["energy_hartree", "relative_kcal_mol", "relative_kj_mol", "energy_stderr_hartree", "energy_std_hartree"]
    writer.writerow([f"{coordinate.name}_{coordinate.key}", *names, "relative_std_hartree", "steps", "converged"])
    for point in points:
        energy, known = point.energy, point.result
        errors = [None, None] if known is None else [known.energy_stderr, known.energy_std]
        relative = [None, None] if energy is None else [f"{(energy - zero) * scale:.6f}" for scale in _SCALES]
        cells = [None if energy is None else f"{energy:.10f}", *relative, *errors, point.spread, point.steps]
        cells.append(int(not point.failure))
        writer.writerow([f"{point.value:.6f}", *("" if cell is None else cell for cell in cells)])
    return file.getvalue()


_SCALES = (units.KCAL_MOL_PER_HARTREE, units.KJ_MOL_PER_HARTREE)


def _near(coordinate: InternalCoordinate, system: System, value: float) -> System:
    """The system with the coordinate moved to `value` by a rigid motion where there is one; else as it is."""
    try:
        motion = internal_coordinate.RigidMotion(coordinate, system)
    except InputError:
        return system
    return system.moved(motion.to(value, system.positions))


def _lower(one: Point, other: Point) -> Point:
    """The better of two: a converged one, then the one with the lower energy."""
    return min(one, other, key=lambda point: (point.failure is not None, point.energy is None, point.energy or 0.0))


def _trusted(points: list[Point]) -> list[Point]:
    """The converged points; all that have an energy where none is."""
    known = [point for point in points if point.energy is not None]
    return [point for point in known if point.failure is None] or known


def _energy(point: Point) -> float:
    assert point.energy is not None
    return point.energy


def _place(coordinate: InternalCoordinate, point: Point) -> dict[str, float]:
    return {coordinate.key: point.value, "energy_hartree": _energy(point)}


def _progress(
    bar: Callable[[int, str], None], points: list[Point], value: float, unit: str
) -> Callable[[int, float, float], None]:
    done = len(points)
    return lambda step, energy, force: bar(done, f"{value:.4g} {unit}  step {step}  largest force {force:.1e} Ha/bohr")
