"""task=ionize: vertical ionisation potential and electron affinity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.chemistry import energy_zeros
from fusion.config.checks import check_switch, check_whole
from fusion.errors import CalculationError, InputError
from fusion.methods import protocol
from fusion.parallel import processes
from fusion.runs.results import Result
from fusion.runs.task import Plan, Title
from fusion.tasks.ionize import calculations, energies
from fusion.tasks.ionize.states import ANION, CATION, SYSTEM, State, initial, ion

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.runs.run import Run

PICTURE = "levels.png"

_NOISE = 2.0
"""Standard errors below which an affinity may have either sign."""


@dataclass(frozen=True)
class IonizePlan(Plan):
    """Energies of `states`, the system first. `trainings` by name of the state: plans of a wavefunction."""

    states: Sequence[State]
    trainings: Mapping[str, Plan]


class Ionize:
    """Energies of a system, its cation and, with `affinity`, its anion at the geometry of the system.

    Every state is a run of its own in `states/NAME`: the optimisation and evaluation of a wavefunction, or one energy
    of any other method. A resumed run continues where it stopped. The multiplicities of the ions are those of the
    settings; None chooses them (`fusion.tasks.ionize.states.ion`).
    """

    needs = frozenset({"energy"})

    def __init__(
        self,
        affinity: bool = False,
        cation_multiplicity: int | None = None,
        anion_multiplicity: int | None = None,
        name: str = "ionize",
    ) -> None:
        self.name, self._affinity = name, affinity
        self._multiplicities = {CATION: cation_multiplicity, ANION: anion_multiplicity}

    def check(self, method: Method, system: System, run: Run) -> IonizePlan:
        """Raise InputError for wrong settings, a crystal, a method that refuses an ion, or a foreign checkpoint."""
        from fusion.runs.state import read_state

        self._check_settings(system)
        read_state(run, self.name)  # the states have checkpoints of their own; this refuses that of another task
        protocol.require(method, self.needs, f"task {self.name}")
        if method.energy_zero == energy_zeros.CORRECTION:
            raise InputError(f"task {self.name} needs energies of electrons; {method.name} gives a correction to them")
        config = run.config.system
        names = (CATION, ANION) if self._affinity else (CATION,)
        states = [initial(system), *(ion(config, system, name, self._multiplicities[name]) for name in names)]
        _check_bare(method, states)
        trainings = calculations.check(method, states, run, self.name)
        return IonizePlan(method, system, states, trainings)

    def title(self, plan: IonizePlan, run: Run) -> Title:
        """Method, system and task for the title, and notes on the ions and on a resumed run."""
        from fusion.methods import abilities
        from fusion.runs.report import title_of

        notes = [state.described for state in plan.states if state.name != SYSTEM]
        parts = {state.label: calculations.part(plan.method, state, run) for state in plan.states}
        begun = [text for text, own in parts.items() if own.checkpoint is not None]
        if begun:
            notes.append(f"resuming {', '.join(begun)}")
        name = abilities.title(plan.method) if plan.method.kind == "ansatz" else plan.method.label
        return (name, title_of(plan.system), "vertical ionisation"), tuple(notes)

    def run(self, plan: IonizePlan, run: Run) -> Result:
        """Return the result of the system, with `ionisation` in its details. Raises CalculationError if the system
        has no energy, or a method that has the same energy for every charge."""
        from fusion.runs.state import write_state

        if processes.rank() == 0:
            write_state(run, {"task": self.name})  # marks the run as resumable; every state has its own checkpoint
        elif plan.method.kind != "ansatz":  # only the first process calculates
            return Result(plan.system)
        results = {state.name: self._result(state, plan, run) for state in plan.states}
        _refuse_equal(plan, results)
        return _outcome(plan.states, results)

    def _result(self, state: State, plan: IonizePlan, run: Run) -> Result:
        if state.system is None:
            return Result(plan.system, energy=state.repulsion)
        return calculations.calculate(plan.method, state, plan.trainings.get(state.name), run, self.name)

    def _check_settings(self, system: System) -> None:
        check_switch("task.affinity", self._affinity)
        for name, multiplicity in self._multiplicities.items():
            if multiplicity is not None:
                check_whole(f"task.{name}_multiplicity", multiplicity)
        if self._multiplicities[ANION] is not None and not self._affinity:
            raise InputError("task.anion_multiplicity is that of the anion of task.affinity=true; add it")
        if any(system.pbc):
            raise InputError(f"task={self.name} changes the charge of molecules; {system.name} is periodic")

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """Yield the energies of the states, ionisation potential and electron affinity."""
        from fusion.tasks.ionize import report

        if "ionisation" in document:
            yield from report.rows(document["ionisation"])

    @staticmethod
    def draw(directory: Path) -> None:
        """Draw `levels.png`, and `energy.png` in the folders of a wavefunction's states."""
        from fusion.tasks.ionize.plot import draw
        from fusion.wavefunctions import energy_plot

        draw(directory, directory / PICTURE)
        for folder in sorted((directory / calculations.FOLDER).glob("*")):
            if energy_plot.has_energies(folder):
                energy_plot.energy_curve(folder)

    @staticmethod
    def files(directory: Path) -> list[str]:
        """Names of the files written."""
        return [f"{calculations.FOLDER}/ …"] if (directory / calculations.FOLDER).is_dir() else []

    @staticmethod
    def stands(directory: Path) -> str | None:
        """States that an unfinished run has begun, in words."""
        folder = directory / calculations.FOLDER
        begun = [name for name in (SYSTEM, CATION, ANION) if (folder / name).is_dir()]
        return f"{', '.join(begun)} begun" if begun else None


def _check_bare(method: Method, states: Sequence[State]) -> None:
    """Raise InputError for a state without electrons unless the method's zero is that of separate particles."""
    for state in states:
        if state.system is None and method.energy_zero != energy_zeros.TOTAL:
            raise InputError(
                f"{state.label} has no electrons, and the energies of {method.label} have another zero than separate "
                "electrons and nuclei; take a method with total energies"
            )


def _refuse_equal(plan: IonizePlan, results: Mapping[str, Result]) -> None:
    """Raise CalculationError if all states have the same energy: the method ignores the charge."""
    values = [result.energy for result in results.values() if result.energy is not None]
    if len(values) > 1 and len(set(values)) == 1:
        raise CalculationError(
            f"{plan.method.label} gives {values[0]:.6f} Ha for every charge of {plan.system.formula}: its energy does "
            "not depend on the number of electrons, so that it has no ionisation potential"
        )


def _outcome(states: Sequence[State], results: Mapping[str, Result]) -> Result:
    """Result of the system with the ionisation in its details; the status is the worst of the states."""
    document = energies.describe(states, results)
    status, message = "ok", results[SYSTEM].message
    poor = [state for state in states if results[state.name].status != "ok"]
    if poor:
        failed = any(results[state.name].status == "failed" for state in poor)
        status = "failed" if failed else "not_converged"
        message = "; ".join(
            f"{state.label}: {results[state.name].message or results[state.name].status}" for state in poor
        )
    else:
        document["verdict"] = f"{', '.join(state.label for state in states)}: each calculation converged"
    doubts = [f"{state.label}: {warning}" for state in states for warning in results[state.name].warnings]
    return replace(
        results[SYSTEM],
        status=status,
        message=message,
        warnings=[*doubts, *unbound(states, document)],
        details={"ionisation": document} | results[SYSTEM].details,
        files={},  # they are in the folder of the state
    )


def unbound(states: Sequence[State], document: Mapping[str, Any]) -> list[str]:
    """Warning on an anion above the system, or as high within the statistical error."""
    affinity = document.get(energies.AFFINITY)
    if affinity is None:
        return []
    value, noise = affinity["hartree"], _NOISE * affinity.get("stderr_hartree", 0.0)
    anion = next(state.label for state in states if state.name == ANION)
    if abs(value) < noise:
        return [
            f"the affinity is below {_NOISE:g} standard errors: it does not tell whether the last electron of {anion} "
            "is bound; more method.evaluation.steps"
        ]
    if value >= 0.0:
        return []
    return [
        f"{anion} lies above the system: its last electron is not bound, or it needs diffuse functions "
        "(method.basis=aug-cc-pvtz) or a longer optimisation"
    ]
