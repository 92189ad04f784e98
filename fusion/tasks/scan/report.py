"""Results of a scan: its points, their table, and the details for `result.json`."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fusion.chemistry import units
from fusion.errors import CalculationError
from fusion.runs.results import Result
from fusion.tasks.geometry import internal_coordinates

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.recorded import Journal
    from fusion.tasks.geometry.internal_coordinates import InternalCoordinate

_SCALES = (units.KCAL_MOL_PER_HARTREE, units.KJ_MOL_PER_HARTREE)

_DISTINCT = 3.0
"""Standard errors of a difference above which one of two energies with error bars is the lower one. The lower of two
such energies of the same state would be too low by 0.4 standard errors of their difference on average; with this
bound it is by less than a hundredth."""


@dataclass(frozen=True)
class Point:
    """A point of a scan: value of the coordinate, result (None if the first calculation failed), and number of steps.

    `failure`: reason why the other atoms did not converge; None if they did.
    """

    value: float
    result: Result | None
    steps: int = 0
    failure: str | None = None
    spread: float | None = None
    """Standard deviation of an ensemble's members, of the energy relative to the lowest point, hartree."""

    @property
    def energy(self) -> float | None:
        return None if self.result is None else self.result.energy

    @property
    def spin_squared(self) -> tuple[float | None, float | None]:
        """<S^2> and its statistical error; each None if the method has none. That of a mean field is not stated for a
        correlated method."""
        details = {} if self.result is None else self.result.details
        measured = (details.get("vmc") or {}).get("spin_squared")
        if measured is not None:
            return measured["value"], measured.get("stderr")
        return (details.get("correlation") or details.get("scf") or {}).get("spin_squared"), None


def outcome(
    coordinate: InternalCoordinate,
    system: System,
    points: list[Point],
    forward: list[Point],
    backward: list[Point],
    relaxed: bool,
    fmax: float,
) -> Result:
    """Result of the lowest converged point, with the scan in its details; the status depends on all points.

    Raises CalculationError if no point has an energy.
    """
    if all(point.energy is None for point in points):
        raise CalculationError(f"no point of the scan has an energy: {points[0].failure}")
    lowest = min(trusted(points), key=_energy)
    assert lowest.result is not None
    details = describe(coordinate, system, points, relaxed)
    if backward:
        details["scan"] |= hysteresis(coordinate, forward, backward)
    result = lowest.result
    failed = [point for point in points if point.failure is not None]
    status, message = "ok", result.message
    if failed:
        status = "not_converged"
        places = ", ".join(f"{point.value:.4g}" for point in failed[:5]) + (" ..." if len(failed) > 5 else "")
        message = f"{len(failed)} of {len(points)} points, at {places} {coordinate.unit}: {failed[0].failure}"
    else:
        criterion = f"largest force of every point below {fmax:g} Ha/bohr" if relaxed else "rigid points"
        details["scan"]["verdict"] = criterion
        message = noted(points, coordinate)
    energy, spread = result.energy, result.energy_std
    properties, all_details = dict(result.properties), result.details | details
    return Result(result.system, status, energy, result.energy_stderr, spread, properties, all_details, message)


def describe(coordinate: InternalCoordinate, system: System, points: list[Point], relaxed: bool) -> dict[str, Any]:
    """Details of a scan for `result.json`; the energy of a point is null if it has none."""
    lowest, highest = min(trusted(points), key=_energy), max(trusted(points), key=_energy)
    scan: dict[str, Any] = {
        "coordinate": coordinate.name,
        "atoms": [index + 1 for index in coordinate.atoms],
        "label": internal_coordinates.label(coordinate, system.symbols),
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
    error = _error_of_difference(lowest, highest)
    if error is not None:
        scan["barrier_stderr_hartree"] = error
    equal = [point for point in trusted(points) if point is not lowest and not _clearly_above(point, lowest)]
    if error is not None and equal:
        # The lowest of several energies that noise may order is too low, and all energies relative to it too high.
        scan["lowest_within_noise"] = [point.value for point in equal]
    spreads = [None if point.result is None else point.result.energy_std for point in points]
    if any(spread is not None for spread in spreads):
        scan["energies_std_hartree"] = spreads
    errors = [None if point.result is None else point.result.energy_stderr for point in points]
    if any(error is not None for error in errors):
        scan["energies_stderr_hartree"] = errors
    for name, column in _spins(points).items():
        scan[name] = column
    if lowest.spread is not None:
        scan["relative_std_hartree"] = [point.spread for point in points]
        scan["barrier_std_hartree"] = highest.spread
    return {"scan": scan}


def noted(points: list[Point], coordinate: InternalCoordinate) -> str | None:
    """Summary of the method's messages on converged points, for example that they are unlike its training data."""
    messages = [
        (point.value, point.result.message) for point in points if point.result is not None and point.result.message
    ]
    if not messages:
        return None
    places = ", ".join(f"{value:.4g}" for value, _ in messages[:5]) + (" ..." if len(messages) > 5 else "")
    return f"{len(messages)} of {len(points)} points, at {places} {coordinate.unit}: {messages[0][1]}"


def _stationary(coordinate: InternalCoordinate, points: list[Point]) -> list[dict[str, Any]]:
    """Points that are lower, or higher, than both their neighbours beyond the noise; a full turn is periodic."""
    energies = [point.energy if point.failure is None else None for point in points]
    full_turn = (
        coordinate.period is not None and abs(abs(points[-1].value - points[0].value) - coordinate.period) < 1e-6
    )
    number = len(points) - 1 if full_turn else len(points)
    extrema = []
    for index in range(0 if full_turn else 1, number if full_turn else number - 1):
        before, energy, after = energies[(index - 1) % number], energies[index], energies[(index + 1) % number]
        if before is None or energy is None or after is None:
            continue
        neighbours = [points[(index - 1) % number], points[(index + 1) % number]]
        if energy < before and energy <= after and all(_distinct(points[index], other) for other in neighbours):
            extrema.append({"kind": "minimum", **_place(coordinate, points[index])})
        elif energy > before and energy >= after and all(_distinct(points[index], other) for other in neighbours):
            extrema.append({"kind": "maximum", **_place(coordinate, points[index])})
    return extrema


def with_spreads(journal: Journal, points: list[Point]) -> list[Point]:
    """The points with the spread of the members, if the method is an ensemble."""
    from fusion.methods.ensemble import member_energies, spreads_of_differences

    calculated = [point for point in points if point.result is not None and point.energy is not None]
    members = member_energies(journal, [point.result.system for point in calculated if point.result is not None])
    if members is None:
        return points
    zero = calculated.index(min(trusted(calculated), key=_energy))
    spreads = dict(zip(map(id, calculated), spreads_of_differences(members, zero).tolist(), strict=True))
    return [replace(point, spread=spreads.get(id(point))) for point in points]


def hysteresis(
    coordinate: InternalCoordinate, forward_points: list[Point], backward_points: list[Point]
) -> dict[str, Any]:
    """Energy difference between the two directions of a scan; zero if every point reaches the same minimum of the other
    atoms in both."""
    pairs = [
        (forward, backward)
        for forward, backward in zip(forward_points, backward_points, strict=True)
        if not forward.failure and not backward.failure
    ]
    details: dict[str, Any] = {
        "forward_hartree": [point.energy for point in forward_points],
        "backward_hartree": [point.energy for point in backward_points],
    }
    if pairs:
        widest = max(pairs, key=lambda pair: abs(_energy(pair[0]) - _energy(pair[1])))
        details["hysteresis_hartree"] = abs(_energy(widest[0]) - _energy(widest[1]))
        details[f"hysteresis_at_{coordinate.key}"] = widest[0].value
        error = _error_of_difference(*widest)
        if error is not None:
            details["hysteresis_stderr_hartree"] = error
    return details


def table(coordinate: InternalCoordinate, points: list[Point]) -> str:
    """Content of scan.csv: a row per point; relative energies refer to the lowest converged point.

    The columns of <S^2> and its error are absent if no point has them.
    """
    zero = min((_energy(point) for point in trusted(points)), default=float("nan"))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = ["energy_hartree", "relative_kcal_mol", "relative_kj_mol", "energy_stderr_hartree", "energy_std_hartree"]
    names += ["relative_std_hartree", "steps", "converged"]
    spins = _spins(points)
    writer.writerow([f"{coordinate.name}_{coordinate.key}", *names, *spins])
    for index, point in enumerate(points):
        energy, result = point.energy, point.result
        errors = [None, None] if result is None else [result.energy_stderr, result.energy_std]
        relative = [None, None] if energy is None else [f"{(energy - zero) * scale:.6f}" for scale in _SCALES]
        cells = [None if energy is None else f"{energy:.10f}", *relative, *errors, point.spread, point.steps]
        cells += [int(not point.failure), *(column[index] for column in spins.values())]
        writer.writerow([f"{point.value:.6f}", *("" if cell is None else cell for cell in cells)])
    return file.getvalue()


def _spins(points: list[Point]) -> dict[str, list[float | None]]:
    """<S^2> of the points and its error by their names in results, without those that no point has."""
    values, errors = (list(column) for column in zip(*(point.spin_squared for point in points), strict=True))
    columns = {"spin_squared": values, "spin_squared_stderr": errors}
    return {name: column for name, column in columns.items() if any(cell is not None for cell in column)}


def lower(first: Point, second: Point) -> Point:
    """The better of two points: a converged one before others, then the one with the lower energy.

    Of two energies with error bars that do not differ clearly, it is the first: choosing by noise would bias them.
    """

    def rank(point: Point) -> tuple[bool, bool]:
        return point.failure is not None, point.energy is None

    if rank(first) != rank(second):
        return min(first, second, key=rank)
    return second if first.energy is not None and _clearly_above(first, second) else first


def _clearly_above(upper: Point, lower: Point) -> bool:
    """True if the energy of `upper` is the higher one, beyond the noise if there is any."""
    return _energy(upper) > _energy(lower) and _distinct(upper, lower)


def _distinct(first: Point, second: Point) -> bool:
    """True for energies without error bars, and for those that differ by more than `_DISTINCT` standard errors."""
    error = _error_of_difference(first, second)
    return error is None or abs(_energy(first) - _energy(second)) > _DISTINCT * error


def _error_of_difference(first: Point, second: Point) -> float | None:
    """Statistical error (hartree) of the difference of two energies from independent samples; None without any."""
    results = [point.result for point in (first, second)]
    errors = [result.energy_stderr for result in results if result is not None and result.energy_stderr is not None]
    return math.hypot(*errors) if errors and first is not second else None


def trusted(points: list[Point]) -> list[Point]:
    """The converged points; if there are none, all points with an energy."""
    with_energy = [point for point in points if point.energy is not None]
    return [point for point in with_energy if point.failure is None] or with_energy


def _energy(point: Point) -> float:
    assert point.energy is not None
    return point.energy


def _place(coordinate: InternalCoordinate, point: Point) -> dict[str, float]:
    return {coordinate.key: point.value, "energy_hartree": _energy(point)}
