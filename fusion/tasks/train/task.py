"""task=train: the training of the method's kind of model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.functionals.training.task import FunctionalTraining
    from fusion.methods.protocol import Method
    from fusion.potentials.training.task import PotentialTraining
    from fusion.runs.results import Result
    from fusion.runs.run import Run
    from fusion.runs.task import Plan, Title


class Train:
    """Training of the method's kind of model, from ``run.checkpoint`` if there is one."""

    needs = frozenset({"energy"})
    reads_data = True

    def __init__(self, name: str = "train") -> None:
        self.name = name

    def check(self, method: Method, system: System, run: Run) -> Plan:
        """Raise InputError for a method with nothing to train, bad settings or data, or a foreign checkpoint."""
        return self._training(method).check(method, system, run)

    def title(self, plan: Plan, run: Run) -> Title:
        """Title and notes of the training."""
        return self._training(plan.method).title(plan, run)

    def run(self, plan: Plan, run: Run) -> Result:
        """Run what the check has planned."""
        return self._training(plan.method).run(plan, run)

    def _training(self, method: Method) -> Any:
        """Training for the method's kind; that of wavefunctions refuses other kinds."""
        if method.kind in ("functional", "potential"):
            return _supervised(method.kind, self.name)
        from fusion.wavefunctions.training import WavefunctionTraining

        return WavefunctionTraining(self.name)

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """Yield the errors of a trained functional or potential."""
        if "training" in document:
            yield from _supervised(document["kind"], "train").rows(document)

    @staticmethod
    def draw(directory: Path) -> None:
        """Draw `energy.png`, as soon as an energy is recorded, and `density.png` if there is a density.

        For a functional or a potential, draw `training.png`.
        """
        from fusion.functionals.training import plot as functional_training
        from fusion.potentials.training import plot as potential_training
        from fusion.wavefunctions import density_plot, energy_plot

        if energy_plot.has_energies(directory):
            energy_plot.energy_curve(directory)
            density_plot.draw(directory)
        elif potential_training.has_epochs(directory):
            potential_training.draw(directory)
        else:
            functional_training.draw(directory)

    @staticmethod
    def stands(directory: Path) -> str | None:
        """Progress of an unfinished training of a functional or a potential; None for a wavefunction."""
        from fusion.potentials.training import plot as potential_training

        kind = "potential" if potential_training.has_epochs(directory) else "functional"
        return _supervised(kind, "train").stands(directory)

    @staticmethod
    def files(directory: Path) -> list[str]:
        """Names of the tables of errors of a trained functional or potential."""
        return [name for name in ("differences.csv", "structures.csv") if (directory / name).is_file()]


def _supervised(kind: str, name: str) -> FunctionalTraining | PotentialTraining:
    """Training of a functional or a potential on labels."""
    if kind == "functional":
        from fusion.functionals.training.task import FunctionalTraining

        return FunctionalTraining(name)
    from fusion.potentials.training.task import PotentialTraining

    return PotentialTraining(name)
