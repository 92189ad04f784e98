"""Optimise and evaluate a wavefunction, or evaluate one from a checkpoint or from the zoo."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from fusion.errors import InputError
from fusion.methods import abilities
from fusion.runs.layout import CHECKPOINT
from fusion.runs.state import is_own
from fusion.runs.task import Plan, Title

if TYPE_CHECKING:
    from torch import nn

    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.runs.results import Result
    from fusion.runs.run import Run
    from fusion.wavefunctions.resources import Cost
    from fusion.wavefunctions.schedule import Schedule
    from fusion.wavefunctions.scores import ScoreRecorder
    from fusion.wavefunctions.transfer import Start


LONGEST = 60
"""Days on the CPU above which a run is refused: its settings are those for a GPU."""


@dataclass(frozen=True)
class WavefunctionPlan(Plan):
    """Iterations of every phase, planned (`schedule`) and `done`, their `cost`, and the number of parameters.

    `moved`: the wavefunction of the checkpoint or the zoo belongs to another geometry; `orbitals`: the conventional
    wavefunction that the ansatz starts at, if any; `start` is the wavefunction of the zoo; `levels` are energies
    (hartree) of the conventional states that several states start at, and of a few more.
    """

    schedule: Schedule
    done: Mapping[str, int]
    moved: bool
    orbitals: str | None
    cost: Cost
    parameters: int
    start: Start | None
    levels: Sequence[float]


class WavefunctionTraining:
    """Pretraining, optimisation and evaluation of a wavefunction, from ``run.checkpoint`` if there is one.

    The checkpoint of another run may be of another geometry: the last part of the optimisation is then done here. It is
    always done with a wavefunction of the zoo (``weights``), which comes without the state of its optimisation.
    """

    moves = True
    """False for tasks that use the wavefunction of a checkpoint or of the zoo as it is."""

    keeps_evaluation = False
    """True for tasks that go on after the evaluation by another run."""

    takes_states = False
    """True for tasks that optimise several states."""

    def __init__(self, name: str = "train") -> None:
        self.name = name

    def check(self, method: Method, system: System, run: Run) -> WavefunctionPlan:
        """Raise InputError for a method without training, walkers that the ranks cannot share, wrong settings, a
        periodic system that the method cannot calculate, or the checkpoint of another system or network."""
        if method.kind != "ansatz":
            raise InputError(
                f"task {self.name} optimises wavefunctions; {method.name} is {method.kind}: use task=energy for it"
            )
        if method.states > 1 and not self.takes_states:  # type: ignore[attr-defined]
            raise InputError(f"method.states is for task=excited; task={self.name} takes the ground state")
        method.check_cell(system)  # type: ignore[attr-defined]
        from fusion.wavefunctions.ansatz import HasLevels, start_of
        from fusion.wavefunctions.checkpoint import identity
        from fusion.wavefunctions.resources import estimate
        from fusion.wavefunctions.saved_state import is_evaluated

        ranks = _ranks(run)
        ansatz, hamiltonian = method.ansatz(system), method.hamiltonian(system)  # type: ignore[attr-defined]
        schedule = method.schedule(system, ansatz)  # type: ignore[attr-defined]
        if schedule.walkers % ranks:
            fit = max(1, round(schedule.walkers / ranks)) * ranks
            raise InputError(f"method.walkers={schedule.walkers} cannot be divided among {ranks} ranks; use {fit}")
        expected = identity(system, ansatz, method.settings)  # type: ignore[attr-defined]
        start = self._published(method, system, ansatz, run)
        estimators = method.estimators(system)  # type: ignore[attr-defined]  # refuses wrong settings before any work
        kept = partial(is_evaluated, walkers=schedule.walkers, estimators=estimators) if self.keeps_evaluation else None
        done, moved = _check_checkpoint(run, ansatz, expected, kept)
        if abilities.weights(method) is not None and not self.moves:  # also when the run is resumed
            schedule = replace(schedule, pretraining_steps=0, optimisation_steps=0)
        moved = moved or (start is not None and not start.is_at(system.positions))
        if moved and not self.moves:
            raise InputError(
                f"{run.checkpoint or method.label} belongs to another system: {system.formula} with another geometry; "
                "optimise it here first: task=train"
            )
        if moved or start is not None:
            done = {"pretraining": schedule.pretraining_steps, "optimising": schedule.before_transfer, "evaluating": 0}
        recorder = _recorder(method, ansatz, schedule) if self.moves else None
        cost = estimate(system, ansatz, hamiltonian, schedule, recorder, ranks, _free_memory(run, ranks))
        number = sum(p.numel() for p in ansatz.parameters())
        levels = ansatz.levels if isinstance(ansatz, HasLevels) else ()
        plan = WavefunctionPlan(method, system, schedule, done, moved, start_of(ansatz), cost, number, start, levels)
        if not _on_gpu(run):
            _refuse_endless(plan, run)
        return plan

    def title(self, plan: WavefunctionPlan, run: Run) -> Title:
        """Method, system, size and device for the title, and notes on cost and start."""
        from fusion.console.format import count, duration, memory
        from fusion.runs.report import title_of

        method, schedule = plan.method, plan.schedule
        seconds = _seconds(plan, run)
        ranks = _ranks(run)
        device = f"CPU, {count(_threads(run, ranks), 'thread')}" if not _on_gpu(run) else "GPU"
        device = f"{ranks} ranks, {device} each" if ranks > 1 else device
        parts = (
            method.title,
            title_of(plan.system),
            count(plan.parameters, "parameter"),
            f"{schedule.walkers} walkers",
            f"{device}, {method.dtype_name}",
        )
        of_cpu = "" if not _on_gpu(run) else " on the CPU"
        cost = f"about {duration(seconds)} and {memory(plan.cost.memory)} of memory{of_cpu}"
        groups = plan.cost.groups
        grouped = f"the optimiser takes the walkers in {groups} groups, to save memory" if groups > 1 else None
        orbitals = plan.orbitals and f"the orbitals start at {plan.orbitals}"
        return parts, tuple(note for note in (method.note, orbitals, cost, grouped, self._start(plan, run)) if note)

    def run(self, plan: WavefunctionPlan, run: Run) -> Result:
        """Run the remaining iterations of all phases."""
        return fit(plan.method.module(plan.system), run, start=plan.start)

    @staticmethod
    def _published(method: Any, system: System, ansatz: nn.Module, run: Run) -> Start | None:
        """Wavefunction of the zoo that a new run starts at; None without one.

        Raises InputError for another molecule or network, and beside another wavefunction to start from.
        """
        if run.checkpoint is None:
            start: Start | None = method.start(system, ansatz)
            return start
        if abilities.weights(method) is not None and not is_own(run):
            raise InputError(
                f"weights={method.label} and ckpt={run.checkpoint} both name a wavefunction; leave one of them out"
            )
        return None

    def _start(self, plan: WavefunctionPlan, run: Run) -> str | None:
        """Note on the start of a run from a checkpoint or from the zoo; None for a new run."""
        schedule, left = plan.schedule, plan.schedule.optimisation_steps - plan.done["optimising"]
        geometry = ", of another geometry" if plan.moved else ""
        if plan.start is not None:
            steps = f", with the last {left} steps of optimisation" if self.moves else ""
            return f"starting from {plan.method.label}{geometry}{steps}"
        if run.checkpoint is None:
            return None
        if plan.moved:
            return f"starting from {run.checkpoint}{geometry}, with the last {left} steps of optimisation"
        if not is_own(run):
            return f"starting from {run.checkpoint}, {plan.done['optimising']} steps optimised"
        done, total, word = plan.done["optimising"], schedule.optimisation_steps, "step"
        if done == 0 and plan.done["pretraining"] < schedule.pretraining_steps:
            done, total, word = plan.done["pretraining"], schedule.pretraining_steps, "pretraining step"
        elif done >= total:
            done, total, word = plan.done["evaluating"], schedule.evaluation_steps, "evaluation step"
        return f"resuming from {word} {done} of {total} ({CHECKPOINT})"


class WavefunctionEvaluation(WavefunctionTraining):
    """Evaluation of the wavefunction in ``run.checkpoint`` or of the zoo, which is not changed."""

    moves = False

    def __init__(self, name: str = "evaluate") -> None:
        super().__init__(name)

    def check(self, method: Method, system: System, run: Run) -> WavefunctionPlan:
        """Plan an evaluation whose earlier phases are those of the checkpoint. Raise InputError as for a training, and
        without a wavefunction."""
        if run.checkpoint is None and run.config.get("weights") is None:
            raise InputError(f"task {self.name} needs a wavefunction: ckpt=RUN_DIR, ckpt=FILE.ckpt or weights=NAME")
        plan = super().check(method, system, run)
        done = {"pretraining_steps": plan.done["pretraining"], "optimisation_steps": plan.done["optimising"]}
        return replace(plan, schedule=replace(plan.schedule, **done))

    def run(self, plan: WavefunctionPlan, run: Run) -> Result:
        """Evaluate, without any further pretraining or optimisation."""
        schedule = plan.schedule
        steps = {"pretraining_steps": schedule.pretraining_steps, "optimisation_steps": schedule.optimisation_steps}
        return fit(plan.method.module(plan.system, **steps), run, start=plan.start)


def fit(module: Any, run: Run, conclude: Callable[[Any], Result] | None = None, start: Start | None = None) -> Result:
    """Run the remaining phases of the module under Lightning, at the wavefunction ``start`` if there is one.

    Every rank returns the result. ``conclude`` makes it from the module; default is that of variational Monte Carlo.
    """
    from omegaconf import OmegaConf

    from fusion.parallel.collectives import partners, traffic, world_size
    from fusion.wavefunctions.outcome import outcome

    module.from_another_run = run.checkpoint is not None and not is_own(run)
    if start is not None:
        module.start_from(start)
    module.save_hyperparameters(OmegaConf.to_container(run.config, resolve=True))  # for the loggers
    trainer = run.trainer(max_epochs=1, num_sanity_val_steps=0, use_distributed_sampler=False)
    with partners(), traffic() as sent:
        trainer.fit(module, ckpt_path=None if run.checkpoint is None else str(run.checkpoint), weights_only=True)
    result = (conclude or outcome)(module)
    if world_size() > 1 and module.iterations:
        result.details["vmc"]["communication"] = {
            "ranks": world_size(),
            "calls_per_iteration": sent.calls / module.iterations,
            "bytes_per_iteration_and_rank": sent.payload / module.iterations,
        }
    return result


def _seconds(plan: WavefunctionPlan, run: Run) -> float:
    """Estimated time of the remaining steps on the CPU."""
    schedule, cost = plan.schedule, plan.cost
    return (
        max(0, schedule.optimisation_steps - plan.done["optimising"]) * cost.optimisation_s
        + max(0, schedule.evaluation_steps - plan.done["evaluating"]) * cost.evaluation_s
    )


def _refuse_endless(plan: WavefunctionPlan, run: Run) -> None:
    """Raise InputError for a run on the CPU that needs more than LONGEST, as presets for a GPU do."""
    from fusion.console.format import memory

    days = _seconds(plan, run) / 86400
    if days > LONGEST:
        raise InputError(
            f"{plan.method.name} of {plan.system.formula} needs about {days:.0f} days and "
            f"{memory(plan.cost.memory)} of memory on this CPU; it needs a GPU, a smaller network or fewer steps "
            f"(method.optimisation.steps={plan.schedule.optimisation_steps}, method.walkers={plan.schedule.walkers})"
        )


def _threads(run: Run, ranks: int) -> int:
    """CPU threads of one process. Lightning divides the cores among several processes unless their number is set."""
    import torch

    if ranks == 1 or "OMP_NUM_THREADS" in os.environ or run.config.trainer.get("threads") is not None:
        return torch.get_num_threads()
    return max(1, len(os.sched_getaffinity(0)) // ranks)


def _ranks(run: Run) -> int:
    """Number of processes of this run: that of torchrun or SLURM if it is set, otherwise that of the trainer."""
    for variable in ("WORLD_SIZE", "SLURM_NTASKS"):
        if variable in os.environ:
            return int(os.environ[variable])
    devices, nodes = run.config.trainer.get("devices", 1), run.config.trainer.get("num_nodes", 1)
    if isinstance(devices, int) and devices > 0:
        return devices * int(nodes)
    return 1


def _free_memory(run: Run, ranks: int) -> float:
    """Bytes that one rank may use: those of its GPU, or its part of this machine's memory."""
    import torch

    from fusion.parallel.memory import available_memory, available_memory_of

    if _on_gpu(run):
        return available_memory_of(torch.device("cuda"))
    return available_memory() * int(run.config.trainer.get("num_nodes", 1)) / ranks


def _recorder(method: Any, ansatz: nn.Module, schedule: Schedule) -> ScoreRecorder | None:
    """Recorder of the method's optimiser; None if it needs no scores."""
    from fusion.wavefunctions.optimisers import RecordsScores
    from fusion.wavefunctions.vmc import RECORDED

    optimiser = method.optimiser(ansatz, RECORDED * schedule.chunk)
    return optimiser.scores if isinstance(optimiser, RecordsScores) else None


def _on_gpu(run: Run) -> bool:
    import torch

    return run.config.trainer.get("accelerator", "auto") != "cpu" and torch.cuda.is_available()


def _check_checkpoint(
    run: Run, ansatz: nn.Module, expected: dict[str, Any], kept: Callable[[dict[str, Any]], bool] | None
) -> tuple[dict[str, int], bool]:
    """Finished iterations of every phase, from the run's checkpoint, and whether it is of another geometry.

    An evaluation of another run counts only if it is ``kept``.

    Raises:
        InputError: the checkpoint belongs to another system or network, or the run's own one to another geometry; the
            message names the difference.
    """
    if run.checkpoint is None:
        return {"pretraining": 0, "optimising": 0, "evaluating": 0}, False
    from fusion.runs.checkpoints import read
    from fusion.wavefunctions.checkpoint import refuse_other, with_current_names

    content = with_current_names(read(run.checkpoint).get("vmc", {}), ansatz)
    stored = content.get("identity")
    if stored is None:
        raise InputError(f"{run.checkpoint} is not a checkpoint of a wavefunction")
    refuse_other(stored, expected, str(run.checkpoint))
    moved = stored["positions"] != expected["positions"]
    if moved and is_own(run):
        raise InputError(f"{run.checkpoint} belongs to another system: {expected['formula']} with another geometry")
    done = dict(content["done"])
    if not is_own(run) and (kept is None or not kept(content)):
        done["evaluating"] = 0
    return done, moved
