"""The energy of one system, with forces where the method has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.errors import InputError

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
        missing = sorted(self.needs - method.provides)
        if missing:
            gives = ", ".join(sorted(method.provides)) or "nothing"
            raise InputError(f"task {self.name} needs {', '.join(missing)}; {method.name} gives {gives}")

    def run(self, method: Method, system: System, run: Run) -> Result:
        wanted = self.needs | (method.provides & {"forces"})
        return method.calculate([system], wanted)[0]
