"""Calculation of the states of an ionisation, each an ordinary run in its own folder with its own checkpoint."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from fusion.console.format import console, header, plus_minus
from fusion.console.phases import phase
from fusion.errors import CalculationError, InputError
from fusion.files.atomic import make_folder, write_atomically
from fusion.methods import abilities, protocol
from fusion.methods.ensemble import MEMBERS
from fusion.methods.recorded import Journal, resume_note
from fusion.parallel import processes
from fusion.runs import trust
from fusion.runs.layout import CONFIG
from fusion.runs.results import Origin, Result, write_result
from fusion.tasks.ionize.states import SYSTEM, State
from fusion.tasks.train.task import Train

if TYPE_CHECKING:
    from fusion.methods.protocol import Method
    from fusion.runs.run import Run
    from fusion.runs.task import Plan

FOLDER = Path("states")
"""Folder in a run's directory with the folders of the states."""

_ENERGY = {"_target_": "fusion.tasks.energy.Energy", "name": "energy"}
_TRAIN = {"_target_": "fusion.tasks.train.Train", "name": "train"}


def check(method: Method, states: Sequence[State], run: Run, task: str) -> dict[str, Plan]:
    """Plans of the optimisations of a wavefunction by name of the state; empty for any other method.

    Raises InputError for a state that the method cannot calculate, or a foreign checkpoint.
    """
    plans = {}
    for state in states:
        if state.system is None:
            continue
        try:
            protocol.require(method, {"energy"}, f"task {task}", [state.system])
            if trains(method):
                plans[state.name] = Train().check(method, state.system, part(method, state, run))
            else:
                resume_note(method, state.system, part(method, state, run), task)
        except InputError as error:
            raise InputError(f"{state.label}: {error}") from None
    return plans


def calculate(method: Method, state: State, training: Plan | None, run: Run, task: str) -> Result:
    """Result of one state, which its folder keeps as that of an ordinary run.

    A failed ion gives a failed result. Raises CalculationError if the calculation of the system itself fails.
    """
    assert state.system is not None
    own, began = part(method, state, run), time.perf_counter()
    first = processes.rank() == 0
    if first:
        make_folder(own.directory, run.directory)
        write_atomically(own.directory / CONFIG, trust.text(own.config))
    try:
        result = _energy(method, state, own, task) if training is None else _trained(training, own)
    except CalculationError as error:
        if state.name == SYSTEM:
            raise
        result = Result(state.system, "failed", message=str(error))
    if first:
        origin = Origin(method.name, method.kind, method.energy_zero, abilities.weights(method))
        write_result(own, origin, str(own.config.task.name), result, time.perf_counter() - began)
    return result


def trains(method: Method) -> bool:
    """True for a wavefunction, whose energy needs an optimisation and an evaluation."""
    return method.kind == "ansatz"


def part(method: Method, state: State, run: Run) -> Run:
    """The run of one state, in its folder of the task's run, with the charge and the spin of the state."""
    config = run.config.copy()
    OmegaConf.set_struct(config, False)
    config.ckpt, config.task = None, _TRAIN if trains(method) else _ENERGY
    if state.system is not None:
        config.system.charge, config.system.spin = state.charge, state.system.spin
        config.system.multiplicity = None
    return run.part(FOLDER / state.name, config)


def _energy(method: Method, state: State, own: Run, task: str) -> Result:
    """Energy of one state, from the journal of its run if it has been calculated before."""
    assert state.system is not None
    wanted = {"energy"} | ({MEMBERS} & method.provides)
    with Journal(method, state.system, own, task) as journal, phase(state.label) as update:
        (result,) = journal.calculate([state.system], wanted)
        text = "no energy" if result.energy is None else f"E = {plus_minus(result.energy, result.energy_stderr)} Ha"
        update(1, text)
    return replace(result, system=state.system)  # that of a recorded result has lost its reference


def _trained(training: Plan, own: Run) -> Result:
    """Result of the remaining optimisation and evaluation of one state."""
    parts, notes = Train().title(training, own)
    header(*parts, notes=notes)
    result = Train().run(training, own)
    console().print()
    return result
