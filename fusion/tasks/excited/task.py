"""task=excited: the lowest states of a system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.errors import InputError
from fusion.methods import protocol
from fusion.runs.task import Plan

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.runs.results import Result
    from fusion.runs.run import Run
    from fusion.runs.task import Title
    from fusion.wavefunctions.excited.task import WavefunctionStates

PICTURE = "levels.png"

NEEDED = frozenset({"energy", "excitations"})
"""Properties of methods other than wavefunctions, which calculate all states in one run of their own."""


class ExcitedStates:
    """Energies of the lowest ``method.states`` states, with gaps, spins, dipoles and oscillator strengths."""

    needs = frozenset({"energy"})

    def __init__(self, name: str = "excited") -> None:
        self.name = name

    def check(self, method: Method, system: System, run: Run) -> Plan:
        """Raise InputError for a method without excited states, wrong settings, or a foreign checkpoint."""
        if method.kind == "ansatz":
            return self._wavefunction().check(method, system, run)
        if method.kind == "composite":
            raise InputError(f"task={self.name} needs one method; the states of the terms of {method.name} differ")
        protocol.require(method, NEEDED, f"task {self.name}", [system])
        return Plan(method, system)

    def title(self, plan: Plan, run: Run) -> Title:
        """Title and notes of the calculation."""
        if plan.method.kind == "ansatz":
            return self._wavefunction().title(plan, run)  # type: ignore[arg-type]
        from fusion.runs.report import title_of

        return (plan.method.label, title_of(plan.system), "excited states"), ()

    def run(self, plan: Plan, run: Run) -> Result:
        """Run what the check has planned."""
        if plan.method.kind == "ansatz":
            return self._wavefunction().run(plan, run)  # type: ignore[arg-type]
        return protocol.calculate(plan.method, [plan.system], NEEDED)[0]

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """Yield one line per level."""
        from fusion.tasks.excited import report

        if "excited" in document:
            yield from report.rows(document["excited"])

    @staticmethod
    def draw(directory: Path) -> None:
        """Draw `energy.png` of the optimisation, and `levels.png`."""
        from fusion.tasks.excited.plot import draw
        from fusion.wavefunctions import energy_plot

        if energy_plot.has_energies(directory):
            energy_plot.energy_curve(directory)
        draw(directory, directory / PICTURE)

    def _wavefunction(self) -> WavefunctionStates:
        from fusion.wavefunctions.excited.task import WavefunctionStates

        return WavefunctionStates(self.name)
