"""A method that answers what its settings say."""

from collections.abc import Iterable, Sequence
from typing import Any

from fusion.chemistry import energy_zeros
from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.runs.results import Result


class Toy:
    provides = frozenset({"energy"})

    def __init__(
        self,
        name: str,
        kind: str,
        energy: float,
        basis: str | None = None,
        status: str = "ok",
        failure: str | None = None,
        **_: Any,
    ) -> None:
        if basis == "none":
            raise InputError("no basis none")
        self.name, self.label, self.kind, self.energy_zero = name, name, kind, energy_zeros.of_kind(kind)
        self.energy, self.status, self.failure = energy, status, failure

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        if self.failure:
            raise CalculationError(self.failure)
        message = None if self.status == "ok" else "did not settle"
        return [Result(system, self.status, self.energy, message=message) for system in systems]
