"""task=dmc: fixed-node diffusion Monte Carlo with a wavefunction, from a checkpoint or trained first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.runs.results import Result
    from fusion.runs.run import Run
    from fusion.runs.task import Plan, Title
    from fusion.wavefunctions.diffusion.task import WavefunctionDiffusion


class DiffusionMonteCarlo:
    """Lowest energy with the nodes of a wavefunction (`fusion.wavefunctions.diffusion`).

    Args:
        name: name of the task.
        time_steps: 1/hartree, one after another; None chooses two by the heaviest nucleus.
        steps: steps of each time step.
        equilibration: steps at the start of each that do not count.
    """

    needs = frozenset({"energy"})

    def __init__(self, name: str, time_steps: Sequence[float] | None, steps: int, equilibration: int) -> None:
        self.name, self._time_steps, self._steps, self._equilibration = name, time_steps, steps, equilibration

    def check(self, method: Method, system: System, run: Run) -> Plan:
        """Raise InputError for a method other than a wavefunction, wrong settings, or a foreign checkpoint."""
        return self._diffusion().check(method, system, run)

    def title(self, plan: Plan, run: Run) -> Title:
        """Title and notes of training and diffusion."""
        return self._diffusion().title(plan, run)  # type: ignore[arg-type]

    def run(self, plan: Plan, run: Run) -> Result:
        """Run what the check has planned."""
        return self._diffusion().run(plan, run)  # type: ignore[arg-type]

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """Yield the energies of the time steps, their extrapolation, and the variational energy."""
        from fusion.tasks.dmc import report

        if "dmc" in document:
            yield from report.rows(document["dmc"])

    @staticmethod
    def draw(directory: Path) -> None:
        """Draw `energy.png` of the training, `density.png` if its evaluation measured a density, and `dmc.png`."""
        from fusion.tasks.dmc import plot
        from fusion.wavefunctions import density_plot, energy_plot

        if energy_plot.has_energies(directory):
            energy_plot.energy_curve(directory)
        density_plot.draw(directory)
        plot.draw(directory)

    def _diffusion(self) -> WavefunctionDiffusion:
        from fusion.wavefunctions.diffusion.task import WavefunctionDiffusion

        return WavefunctionDiffusion(self.name, self._time_steps, self._steps, self._equilibration)
