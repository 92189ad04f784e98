"""task=evaluate: errors of a method on labelled structures (data=...), or energy of a wavefunction in a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.errors import InputError

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.runs.results import Result
    from fusion.runs.run import Run
    from fusion.runs.task import Plan, Title


class Evaluate:
    """Evaluates a method on data if there are any, otherwise the wavefunction of a checkpoint."""

    needs = frozenset({"energy"})
    reads_data = True

    def __init__(self, name: str, part: str = "all") -> None:
        self.name, self._part = name, part

    def check(self, method: Method, system: System, run: Run) -> Plan:
        """Raises InputError without data and wavefunction, and for the faults that either evaluation refuses."""
        return self._evaluation(method, run).check(method, system, run)

    def title(self, plan: Plan, run: Run) -> Title:
        """Title and notes of the chosen evaluation."""
        return self._evaluation(plan.method, run).title(plan, run)

    def run(self, plan: Plan, run: Run) -> Result:
        """Run what the check has planned."""
        return self._evaluation(plan.method, run).run(plan, run)

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """Yield the errors against labels."""
        if "evaluation" in document:
            from fusion.evaluation import errors

            yield from errors.rows(document["evaluation"])

    @staticmethod
    def draw(directory: Path) -> None:
        """Draw `parity.png` and `calibration.png`, or `energy.png` and, if there is a density, `density.png`."""
        from fusion.evaluation.task import LabelledEvaluation
        from fusion.wavefunctions import density_plot, energy_plot

        if energy_plot.has_energies(directory):
            energy_plot.energy_curve(directory)
            density_plot.draw(directory)
        else:
            LabelledEvaluation.draw(directory)

    @staticmethod
    def files(directory: Path) -> list[str]:
        """Names of the tables of an evaluation on labels."""
        from fusion.evaluation.task import LabelledEvaluation

        return LabelledEvaluation.files(directory)

    def _evaluation(self, method: Method, run: Run) -> Any:
        """Evaluation on data if the run has any, otherwise that of a wavefunction."""
        if run.config.get("data") is not None:
            from fusion.evaluation.task import LabelledEvaluation

            return LabelledEvaluation(self.name, self._part)
        if method.kind != "ansatz":
            raise InputError(
                f"task={self.name} needs labelled structures, data=NAME or data=FILE (with energies, forces or both), "
                f"for {method.name}"
            )
        from fusion.wavefunctions.training import WavefunctionEvaluation

        return WavefunctionEvaluation(self.name)
