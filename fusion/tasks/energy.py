"""The energy of one system, with forces where the method has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion import methods

if TYPE_CHECKING:
    from fusion.methods import Method
    from fusion.results import Result
    from fusion.runs import Run
    from fusion.system import System


class Energy:
    """One call of `method.calculate`: energy, and forces where they are provided."""

    needs = frozenset({"energy"})

    def __init__(self, name: str = "energy") -> None:
        self.name = name

    def check(self, method: Method, system: System, run: Run) -> None:
        methods.require(method, self.needs, f"task {self.name}")
        if hasattr(method, "check"):  # what the method knows of its own limits: elements, charges, memory
            method.check([system], self._wanted(method))

    def run(self, method: Method, system: System, run: Run) -> Result:
        return methods.calculate(method, [system], self._wanted(method))[0]

    def _wanted(self, method: Method) -> frozenset[str]:
        return self.needs | (method.provides & {"forces"})
