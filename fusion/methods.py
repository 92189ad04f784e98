"""What every method of every kind answers to, and what the core derives once when a method does not provide it.

A task states what it `needs`, a method what it `provides`. `require` refuses by name what can neither be provided nor
derived, before any work; `calculate` runs a method and adds what can be derived, saying so in the result's details.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np

from fusion.errors import CalculationError, InputError
from fusion.results import Result
from fusion.system import System

DERIVED: Final[dict[str, str]] = {"forces": "energy"}
"""Properties the core can derive, and the one each is derived from."""

STEP_BOHR: Final[float] = 0.005
"""Displacement of central differences: the error of a force is of order step^2, its noise of order dE / step."""


@runtime_checkable
class Method(Protocol):
    """One way to compute properties of systems. Energies in hartree, lengths in bohr."""

    @property
    def name(self) -> str:
        """Name as in `+method=NAME`."""
        ...

    @property
    def kind(self) -> str:
        """potential, functional, ansatz or conventional."""
        ...

    @property
    def provides(self) -> frozenset[str]:
        """Properties it computes itself: energy, energy_stderr, energy_std, forces, stress, hessian, dipole, ..."""
        ...

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        """One result per system with at least `properties`; `energy` goes into the field, the rest by name."""
        ...


def build(config: Mapping[str, Any], **context: Any) -> Any:
    """The method that a `method` config node names by `_target_`; `context` goes to the adapter as keywords.

    Nested configs such as `model` reach the adapter as configs: it decides when to build them. Raises InputError for
    a node without a `_target_`.
    """
    from hydra.utils import instantiate

    if not isinstance(config, Mapping) or not config.get("_target_"):
        raise InputError(f"no method {config!r}; give +method=NAME (fusion methods lists them)")
    return instantiate(config, _recursive_=False, **context)


def require(method: Method, needs: Iterable[str], purpose: str, systems: Sequence[System] = ()) -> None:
    """Raise InputError unless `method` provides, or the core can derive, everything that `purpose` needs.

    A method with `check(systems, properties)` is asked as well what it cannot do with these systems.
    """
    needs = frozenset(needs)
    missing = sorted(need for need in needs if not _available(method, need))
    if missing:
        raise InputError(
            f"{purpose} needs {_listed(missing)}, which {method.name} does not give; "
            f"it gives {_listed(sorted(method.provides)) or 'nothing by itself'}"
        )
    check = getattr(method, "check", None)
    if check is not None:
        check(systems, needs & method.provides)


def available(method: Method) -> frozenset[str]:
    """What `method` provides together with what the core derives from that."""
    return method.provides | {name for name in DERIVED if _available(method, name)}


def calculate(method: Method, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
    """`method.calculate`, with missing but derivable properties added: numerical forces, by central differences."""
    wanted = frozenset(properties)
    require(method, wanted, "this calculation", systems)
    results = method.calculate(systems, wanted & method.provides | {"energy"})
    if "forces" in wanted - method.provides:
        for result in results:
            if result.status == "ok":
                _add_numerical_forces(method, result)
    return results


def _available(method: Method, name: str) -> bool:
    # A stochastic method's noise divided by the step would drown the forces: nothing is derived from it.
    source = DERIVED.get(name)
    return name in method.provides or (source in method.provides and "energy_stderr" not in method.provides)


def _add_numerical_forces(method: Method, result: Result) -> None:
    """Put central-difference forces (A, 3), hartree/bohr, into `result`; on a failed displacement mark it so."""
    try:
        result.properties["forces"] = numerical_forces(method, result.system)
    except CalculationError as error:
        result.status, result.message = "not_converged", str(error)
        return
    result.details["derived"] = {
        "forces": {
            "from": "energy",
            "by": "central differences",
            "step_bohr": STEP_BOHR,
            "energies": 6 * len(result.system.symbols),
        }
    }


def numerical_forces(method: Method, system: System, step: float = STEP_BOHR) -> np.ndarray:
    """Minus the central difference of the energy, (A, 3) in hartree/bohr, from 6 A energies asked for in one call."""
    displaced = []
    for index in range(system.positions.size):
        for sign in (1.0, -1.0):
            positions = system.positions.copy()
            positions.flat[index] += sign * step
            displaced.append(system.with_positions(positions))
    results = method.calculate(displaced, frozenset({"energy"}))
    energies = np.empty(len(results))
    for number, result in enumerate(results):
        if result.status != "ok" or result.energy is None:
            raise CalculationError(
                f"numerical forces: a displaced geometry did not converge ({result.message or result.status})"
            )
        energies[number] = result.energy
    plus, minus = energies.reshape(-1, 2).T
    return (minus - plus).reshape(-1, 3) / (2.0 * step)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)
