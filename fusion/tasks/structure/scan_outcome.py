"""What a scan found: its points, their table, and what `result.json` says of them."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fusion import units
from fusion.errors import CalculationError
from fusion.results import Result
from fusion.tasks.structure import internal_coordinate

if TYPE_CHECKING:
    from fusion.system import System
    from fusion.tasks.interruption.journal import Journal
    from fusion.tasks.structure.internal_coordinate import InternalCoordinate

_SCALES = (units.KCAL_MOL_PER_HARTREE, units.KJ_MOL_PER_HARTREE)


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


def outcome(
    coordinate: InternalCoordinate,
    system: System,
    points: list[Point],
    there: list[Point],
    back: list[Point],
    relaxed: bool,
    fmax: float,
) -> Result:
    """The lowest converged point's result with the scan in its details; status by all points."""
    if all(point.energy is None for point in points):
        raise CalculationError(f"no point of the scan has an energy: {points[0].failure}")
    lowest = min(trusted(points), key=_energy)
    assert lowest.result is not None
    details = describe(coordinate, system, points, relaxed)
    if back:
        details["scan"] |= hysteresis(coordinate, there, back)
    result = lowest.result
    failed = [point for point in points if point.failure is not None]
    status, message = "ok", result.message
    if failed:
        status = "not_converged"
        where = ", ".join(f"{point.value:.4g}" for point in failed[:5]) + (" ..." if len(failed) > 5 else "")
        message = f"{len(failed)} of {len(points)} points, at {where} {coordinate.unit}: {failed[0].failure}"
    else:
        how = f"largest force of every point below {fmax:g} Ha/bohr" if relaxed else "rigid points"
        details["scan"]["verdict"] = how
        message = noted(points, coordinate)
    energy, spread = result.energy, result.energy_std
    properties, more = dict(result.properties), result.details | details
    return Result(result.system, status, energy, result.energy_stderr, spread, properties, more, message)


def describe(coordinate: InternalCoordinate, system: System, points: list[Point], relaxed: bool) -> dict[str, Any]:
    """What `result.json` says of a scan; energies of points without one are null."""
    lowest, highest = min(trusted(points), key=_energy), max(trusted(points), key=_energy)
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


def noted(points: list[Point], coordinate: InternalCoordinate) -> str | None:
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


def with_spreads(journal: Journal, points: list[Point]) -> list[Point]:
    """The points with the spread of an ensemble's members, if it is one."""
    from fusion.tasks.reaction.spread import member_energies, spreads_of_differences

    known = [point for point in points if point.result is not None and point.energy is not None]
    members = member_energies(journal, [point.result.system for point in known if point.result is not None])
    if members is None:
        return points
    zero = known.index(min(trusted(known), key=_energy))
    spreads = dict(zip(map(id, known), spreads_of_differences(members, zero).tolist(), strict=True))
    return [replace(point, spread=spreads.get(id(point))) for point in points]


def hysteresis(coordinate: InternalCoordinate, there: list[Point], back: list[Point]) -> dict[str, Any]:
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


def table(coordinate: InternalCoordinate, points: list[Point]) -> str:
    """scan.csv: a row per point; energies relative to the lowest converged one."""
    zero = min((_energy(point) for point in trusted(points)), default=float("nan"))
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


def lower(one: Point, other: Point) -> Point:
    """The better of two: a converged one, then the one with the lower energy."""
    return min(one, other, key=lambda point: (point.failure is not None, point.energy is None, point.energy or 0.0))


def trusted(points: list[Point]) -> list[Point]:
    """The converged points; all that have an energy where none is."""
    known = [point for point in points if point.energy is not None]
    return [point for point in known if point.failure is None] or known


def _energy(point: Point) -> float:
    assert point.energy is not None
    return point.energy


def _place(coordinate: InternalCoordinate, point: Point) -> dict[str, float]:
    return {coordinate.key: point.value, "energy_hartree": _energy(point)}
