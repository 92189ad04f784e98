"""Optional abilities of a method, beside the members of `fusion.methods.protocol.Method`.

A method has an ability if it has the members of its protocol; it inherits from nothing. The core asks by the functions
below and never looks for other names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from fusion.errors import InputError

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.about import About
    from fusion.methods.protocol import Method

Watcher = Callable[[int, str], None]
"""Called with the number of cycles and a text after each cycle."""


@runtime_checkable
class Checking(Protocol):
    """Method that has limits of its own, such as elements, charges, basis sets or memory."""

    def check(self, systems: Sequence[System], properties: Iterable[str] = ()) -> None:
        """Raise InputError, before any work, for systems or properties that the method cannot calculate."""
        ...


@runtime_checkable
class Reporting(Protocol):
    """Method that reports the cycles of a calculation, such as those of an SCF."""

    @property
    def reports(self) -> bool:
        """True if the method reports cycles with its current settings."""
        ...

    def watched(self, watcher: Watcher) -> AbstractContextManager[None]:
        """Call `watcher` after each cycle inside the block."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """Method whose next result depends, within its convergence threshold, on the last one.

    An example is an SCF that starts from the last density. A resumed run restores the memory, so that its results are
    bit-identical.
    """

    @property
    def remembers(self) -> bool:
        """True if the method has a memory with its current settings."""
        ...

    def memory(self) -> dict[str, Any]:
        """Return the memory: numbers, texts, lists, dicts and arrays; empty for a new method."""
        ...

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Restore the memory that `memory` returned."""
        ...


@runtime_checkable
class Weighted(Protocol):
    """Method that may use a model of the zoo."""

    @property
    def weights(self) -> dict[str, Any] | None:
        """Name, version and digest of the model, written to `result.json`; None without one."""
        ...


@runtime_checkable
class Calibrated(Protocol):
    """Method whose `energy_std` may have been calibrated on held-out structures (`fusion.evaluation.uncertainty`)."""

    @property
    def spread_factor(self) -> float | None:
        """Factor that `energy_std` already contains; None without a calibration."""
        ...


@runtime_checkable
class Licensed(Protocol):
    """Method whose program or model may have a licence of its own."""

    @property
    def licence(self) -> str | None:
        """Licence, printed with the run's title and written to `result.json`; None if not stated."""
        ...


@runtime_checkable
class Costly(Protocol):
    """Method some of whose properties take much longer than the energy."""

    @property
    def costly(self) -> frozenset[str]:
        """Those properties; task=energy leaves them out."""
        ...


@runtime_checkable
class Foretelling(Protocol):
    """Method that can estimate the memory of a calculation before it starts, for --dry-run."""

    def memory_needed(self, system: System) -> str:
        """Describe the memory that the calculation of a checked system needs: `about 2.1 GB for ...`."""
        ...


@runtime_checkable
class Separable(Protocol):
    """Method that other processes may build from its settings, to calculate displaced geometries at the same time."""

    @property
    def separable(self) -> bool:
        """True if a result depends on the method's settings and memory only, and no file or program is shared."""
        ...


@runtime_checkable
class TakingCores(Protocol):
    """Method that calculates systems with effective core potentials (`System.cores`); others refuse them."""

    @property
    def takes_cores(self) -> bool:
        """True if the method uses the potentials with its current settings."""
        ...


@runtime_checkable
class TakingGas(Protocol):
    """Method that calculates the electron gas, a system without nuclei; others refuse it."""

    @property
    def takes_gas(self) -> bool:
        """True if the method calculates electrons in a uniform background with its current settings."""
        ...


@runtime_checkable
class Described(Protocol):
    """Method with a description, which the table of methods and the first lines of a run show."""

    @property
    def about(self) -> About:
        """The description, the node `method.about`."""
        ...


def check(method: object, systems: Sequence[System], properties: Iterable[str] = ()) -> None:
    """Raise InputError for systems or properties that the method cannot calculate."""
    for system in systems:
        check_cores(method, system)
        check_gas(method, system)
    if isinstance(method, Checking):
        method.check(systems, properties)


def check_cores(method: object, system: System) -> None:
    """Raise InputError for a system with effective core potentials unless the method takes them."""
    if system.cores and not (isinstance(method, TakingCores) and method.takes_cores):
        name = "a task with several methods" if method is None else getattr(method, "name", type(method).__name__)
        raise InputError(
            f"system.ecp: {name} does not take effective core potentials; remove system.ecp (conventional methods use "
            "those of their basis: method.basis=ccecp-cc-pvtz)"
        )


def check_gas(method: object, system: System) -> None:
    """Raise InputError for an electron gas unless the method takes it."""
    if system.is_electron_gas and not (isinstance(method, TakingGas) and method.takes_gas):
        name = "a task with several methods" if method is None else getattr(method, "name", type(method).__name__)
        raise InputError(
            f"{system.name} is an electron gas, which has no nuclei; {name} needs them: +method=ferminet or psiformer"
        )


def title(method: Method) -> str:
    """Return the title of the method: that of its description, else its name."""
    return (isinstance(method, Described) and method.about.title) or method.name


def reporting(method: object) -> Reporting | None:
    """Return the method if it reports its cycles, otherwise None."""
    return method if isinstance(method, Reporting) and method.reports else None


def remembering(method: object) -> Remembering | None:
    """Return the method if its results depend on the last one, otherwise None."""
    return method if isinstance(method, Remembering) and method.remembers else None


def separable(method: object) -> bool:
    """Return True if other processes may calculate geometries with the method."""
    return isinstance(method, Separable) and method.separable


def weights(method: object) -> dict[str, Any] | None:
    """Return name, version and digest of the method's model of the zoo, or None."""
    return method.weights if isinstance(method, Weighted) else None


def spread_factor(method: object) -> float | None:
    """Return the calibration factor in the method's `energy_std`, or None."""
    return method.spread_factor if isinstance(method, Calibrated) else None


def licence(method: object) -> str | None:
    """Return the method's own licence, or None."""
    return method.licence if isinstance(method, Licensed) else None


def costly(method: object) -> frozenset[str]:
    """Return the properties that take the method much longer than the energy."""
    return method.costly if isinstance(method, Costly) else frozenset()
