"""Protocol of all methods, and properties that the core derives if a method does not provide them.

A task states the properties it `needs`, a method those it `provides`. Before any work, `require` refuses properties
that can neither be provided nor derived. `calculate` runs a method and adds derived properties, marked in the result's
details.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np

from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.methods import abilities, about
from fusion.runs import trust
from fusion.runs.results import Result
from fusion.runs.warning_summary import counted

DERIVED: Final[dict[str, str]] = {
    "forces": "energy",
    "hessian": "forces",
    "dipole_derivatives": "dipole",
    "polarizability_derivatives": "polarizability",
}
"""Properties that the core can derive -> the property they are derived from, which the method itself must provide."""

STEP_BOHR: Final[float] = 0.005
"""Displacement of central differences: the error of a force is of the order step^2, its noise dE / step."""


class Method(Protocol):
    """Method to compute properties of systems. Energies in hartree, lengths in bohr.

    Optional abilities are in `fusion.methods.abilities`.
    """

    @property
    def name(self) -> str:
        """Name as in `+method=NAME`."""
        ...

    @property
    def kind(self) -> str:
        """Kind of the method: potential, functional, ansatz or conventional."""
        ...

    @property
    def label(self) -> str:
        """Name shown for a run, with what tells it from other runs: `ani-2x@1`, `HF/def2-TZVP`."""
        ...

    @property
    def energy_zero(self) -> str:
        """Zero of its energies, one of `fusion.chemistry.energy_zeros`."""
        ...

    @property
    def provides(self) -> frozenset[str]:
        """Properties computed by itself: energy, energy_stderr, energy_std, forces, stress, hessian, dipole, ...

        `forces_stderr` beside forces: they have error bars, and tasks that need exact forces refuse the method.
        """
        ...

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        """Return one result per system with at least `properties`; `energy` is a field, all others are by name."""
        ...


def build(config: Mapping[str, Any], **context: Any) -> Any:
    """Build the method that a `method` node names by `_target_`; `context` are keywords for the adapter.

    Nested nodes such as `model` reach the adapter as configurations, and it decides when to build them. Raises
    InputError for a node without a `_target_`, or with its description (`fusion.methods.about`) at a wrong place.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    if not isinstance(config, Mapping) or not config.get("_target_"):
        raise InputError(f"no method {config!r}; write +method=NAME (fusion methods lists them)")
    about.refuse_beside(config, config.get("name"))
    trust.refuse_programs(config)
    try:
        return instantiate(config, _recursive_=False, **context)
    except InstantiationException as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise


def require(
    method: Method,
    needs: Iterable[str],
    purpose: str,
    systems: Sequence[System] = (),
    error_bars: bool = False,
) -> None:
    """Raise InputError unless `method` provides, or the core can derive, all properties that `purpose` needs.

    Forces with error bars are accepted only with `error_bars`, for a purpose that takes their noise into account. The
    method's own limits (`abilities.Checking`) are checked as well.
    """
    needs = frozenset(needs)
    if not error_bars and "forces" in needs and has_noisy_forces(method):
        raise InputError(
            f"{purpose} needs exact forces, and those of {method.name} have error bars; "
            "task=relax and task=vibrations of one structure take such forces"
        )
    missing = sorted(need for need in needs if not _available(method, need))
    if missing:
        raise InputError(
            f"{purpose} needs {_listed(missing)}, which {method.name} does not give; "
            f"it gives {_listed(sorted(method.provides)) or 'nothing by itself'}"
        )
    abilities.check(method, systems, needs & method.provides)


def has_noisy_forces(method: Method) -> bool:
    """True if the forces of `method` have error bars."""
    return {"forces", "forces_stderr"} <= method.provides


def offered(method: Method, optional: Iterable[str], systems: Sequence[System]) -> frozenset[str]:
    """Return those of the `optional` properties that `method` itself provides for all `systems`.

    Raises InputError for systems that it cannot calculate at all.
    """
    names = frozenset(optional) & method.provides
    try:
        abilities.check(method, systems, names)
    except InputError:
        abilities.check(method, systems)
        return frozenset(name for name in names if _accepts(method, systems, name))
    return names


def available(method: Method) -> frozenset[str]:
    """Return the properties that `method` provides and those that the core derives from them."""
    return method.provides | {name for name in DERIVED if _available(method, name)}


@counted
def calculate(method: Method, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
    """Call `method.calculate` and add derivable properties by central differences.

    These are forces, the Hessian, and derivatives of dipole and polarisability. All come from the same displaced
    geometries, which are calculated in one call.
    """
    wanted = frozenset(properties)
    require(method, wanted, "this calculation", systems, error_bars=True)
    results = method.calculate(systems, wanted & method.provides | {"energy"})
    missing = [name for name in DERIVED if name in wanted - method.provides]
    if missing:
        for result in results:
            if result.status == "ok":
                _derive(method, result, missing)
    return results


def _accepts(method: Method, systems: Sequence[System], name: str) -> bool:
    try:
        abilities.check(method, systems, {name})
    except InputError:
        return False
    return True


def _available(method: Method, name: str) -> bool:
    # A stochastic method's noise divided by the step would drown the forces: nothing is derived from it.
    source = DERIVED.get(name)
    return name in method.provides or (source in method.provides and "energy_stderr" not in method.provides)


def _derive(method: Method, result: Result, names: Sequence[str]) -> None:
    """Add derived properties to `result` and describe their origin; a failed displacement marks it not converged."""
    purpose = "numerical " + " and ".join(_PURPOSES[name] for name in names)
    try:
        displaced = _displaced(method, result.system, STEP_BOHR, {DERIVED[name] for name in names}, purpose)
    except CalculationError as error:
        result.status, result.message = "not_converged", str(error)
        return
    origins = {}
    for name in names:
        result.properties[name], remark = _DIFFERENCES[name](displaced, STEP_BOHR)
        origin = {
            "from": DERIVED[name],
            "by": "central differences",
            "step_bohr": STEP_BOHR,
            "displaced": len(displaced),
        }
        origins[name] = origin | remark
    result.details["derived"] = result.details.get("derived", {}) | origins


def numerical_forces(method: Method, system: System, step: float = STEP_BOHR) -> np.ndarray:
    """Return minus the central difference of the energy, (A, 3) in hartree/bohr, from one call for 6 A energies."""
    return _forces(_displaced(method, system, step, {"energy"}, "numerical forces"), step)[0]


def numerical_hessian(method: Method, system: System, step: float = STEP_BOHR) -> tuple[np.ndarray, float]:
    """Return minus the central difference of the forces, (3A, 3A) in hartree/bohr^2, from one call for 6 A forces.

    The matrix is symmetrised. The second value is the largest difference to its transpose before that, hartree/bohr^2,
    a measure of its numerical error.
    """
    hessian, remark = _hessian(_displaced(method, system, step, {"forces"}, "numerical Hessian"), step)
    return hessian, remark["asymmetry_hartree_per_bohr2"]


def _forces(displaced: Sequence[Result], step: float) -> tuple[np.ndarray, dict[str, float]]:
    return -_slopes([result.energy for result in displaced], step).reshape(-1, 3), {}


def _hessian(displaced: Sequence[Result], step: float) -> tuple[np.ndarray, dict[str, float]]:
    hessian = -_slopes([np.ravel(result.properties["forces"]) for result in displaced], step)
    asymmetry = float(np.abs(hessian - hessian.T).max())
    return 0.5 * (hessian + hessian.T), {"asymmetry_hartree_per_bohr2": asymmetry}


def _dipole_derivatives(displaced: Sequence[Result], step: float) -> tuple[np.ndarray, dict[str, float]]:
    """Dipole derivatives (3A, 3), e: rows are coordinates of nuclei, columns components of the dipole."""
    return _slopes([result.properties["dipole"] for result in displaced], step), {}


def _polarizability_derivatives(displaced: Sequence[Result], step: float) -> tuple[np.ndarray, dict[str, float]]:
    """Polarisability derivatives (3A, 3, 3), bohr^2, by coordinate of a nucleus and component."""
    return _slopes([result.properties["polarizability"] for result in displaced], step), {}


_DIFFERENCES: Final = {
    "forces": _forces,
    "hessian": _hessian,
    "dipole_derivatives": _dipole_derivatives,
    "polarizability_derivatives": _polarizability_derivatives,
}
_PURPOSES: Final = {
    "forces": "forces",
    "hessian": "Hessian",
    "dipole_derivatives": "dipole derivatives",
    "polarizability_derivatives": "polarisability derivatives",
}


def _slopes(values: Sequence[Any], step: float) -> np.ndarray:
    """Central differences (3A, ...) of values at +step and -step along every coordinate in turn."""
    array = np.asarray(values, dtype=float)
    return (array[::2] - array[1::2]) / (2.0 * step)


def _displaced(method: Method, system: System, step: float, names: set[str], purpose: str) -> list[Result]:
    """Return results with `names` for every coordinate displaced by +step, then by -step. Raises CalculationError."""
    displaced = []
    for index in range(system.positions.size):
        for sign in (1.0, -1.0):
            positions = system.positions.copy()
            positions.flat[index] += sign * step
            displaced.append(system.moved(positions))
    results = method.calculate(displaced, frozenset({"energy", *names}))
    for result in results:
        if result.status != "ok" or result.energy is None:
            raise CalculationError(
                f"{purpose}: a displaced geometry did not converge ({result.message or result.status})"
            )
    return results


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)
