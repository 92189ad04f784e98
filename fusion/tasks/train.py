"""Optimise a wavefunction, then evaluate it; or evaluate one from a checkpoint."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from fusion.errors import InputError

if TYPE_CHECKING:
    from fusion.methods import Method
    from fusion.results import Result
    from fusion.runs import Run
    from fusion.system import System


class Train:
    """All phases of the method: pretraining, optimisation, evaluation; from ``run.checkpoint`` if there is one."""

    needs = frozenset({"energy"})

    def __init__(self, name: str = "train") -> None:
        self.name = name

    def check(self, method: Method, system: System, run: Run) -> None:
        """Raises InputError: not an ansatz, walkers not divisible by ranks, too little memory, a foreign checkpoint."""
        if method.kind != "ansatz":
            raise InputError(f"task {self.name} optimises wavefunctions; {method.name} is a {method.kind}: task=energy")
        if run.config.get("weights") is not None:
            raise InputError(f"{method.name} has no published weights to start from: weights=null")
        from fusion.wavefunctions.resources import estimate
        from fusion.wavefunctions.vmc import identity

        ranks = _ranks(run)
        ansatz = method.ansatz(system)  # type: ignore[attr-defined]
        schedule = method.schedule(system, ansatz)  # type: ignore[attr-defined]
        if schedule.walkers % ranks:
            fit = max(1, round(schedule.walkers / ranks)) * ranks
            raise InputError(f"method.walkers={schedule.walkers} cannot be shared by {ranks} ranks; {fit} can")
        _check_checkpoint(run, identity(system, ansatz))
        walkers = schedule.walkers // ranks
        cost = (walkers, schedule.chunk, schedule.moves, schedule.evaluation_moves, schedule.walkers)
        self.cost = estimate(system, ansatz, *cost)
        self.parameters = sum(p.numel() for p in ansatz.parameters())

    def title(self, method: Any, system: System, run: Run) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What is about to be done, and what it will cost."""
        import torch

        from fusion.report import count, duration, memory, system_title

        schedule = method.schedule(system, method.ansatz(system))
        seconds = schedule.optimisation_steps * self.cost.optimisation_s
        seconds += schedule.evaluation_steps * self.cost.evaluation_s
        ranks = _ranks(run)
        place = f"CPU, {count(torch.get_num_threads(), 'thread')}" if not _on_gpu(run) else "GPU"
        place = f"{ranks} ranks, {place} each" if ranks > 1 else place
        parts = (
            method.title,
            system_title(system.formula, system.n_electrons, system.spin, system.charge),
            count(self.parameters, "parameter"),
            f"{schedule.walkers} walkers",
            f"{place}, {method.dtype_name}",
        )
        where = "" if not _on_gpu(run) else " on the CPU"
        cost = f"about {duration(seconds)} and {memory(self.cost.memory)} of memory{where}"
        return parts, tuple(note for note in (method.note, cost) if note)

    def run(self, method: Any, system: System, run: Run) -> Result:
        return fit(method.module(system), run)


class Evaluate(Train):
    """The evaluation alone, of the wavefunction in ``run.checkpoint``, which is not changed."""

    def __init__(self, name: str = "evaluate") -> None:
        super().__init__(name)

    def check(self, method: Method, system: System, run: Run) -> None:
        if run.checkpoint is None:
            raise InputError(f"task {self.name} needs a wavefunction: ckpt=RUN_DIR or ckpt=FILE.ckpt")
        super().check(method, system, run)

    def run(self, method: Any, system: System, run: Run) -> Result:
        from fusion.wavefunctions.checkpoint import read

        assert run.checkpoint is not None
        done = read(run.checkpoint)["vmc"]["done"]
        changes = {"pretraining_steps": done["pretraining"], "optimisation_steps": done["optimising"]}
        return fit(method.module(system, **changes), run)


def fit(module: Any, run: Run) -> Result:
    """Run what is left of the module's phases under Lightning; every rank returns the result."""
    from fusion.runs import CHECKPOINT
    from fusion.wavefunctions.outcome import outcome

    own = run.directory / CHECKPOINT
    module.restart_evaluation = run.checkpoint is not None and run.checkpoint.resolve() != own.resolve()
    trainer = run.trainer(max_epochs=1, num_sanity_val_steps=0, use_distributed_sampler=False)
    trainer.fit(module, ckpt_path=None if run.checkpoint is None else str(run.checkpoint), weights_only=True)
    return outcome(module)


def _ranks(run: Run) -> int:
    """Processes this run will have: torchrun's or SLURM's if they are there, else what the trainer is told to start."""
    for variable in ("WORLD_SIZE", "SLURM_NTASKS"):
        if variable in os.environ:
            return int(os.environ[variable])
    devices, nodes = run.config.trainer.get("devices", 1), run.config.trainer.get("num_nodes", 1)
    if isinstance(devices, int) and devices > 0:
        return devices * int(nodes)
    return 1


def _on_gpu(run: Run) -> bool:
    import torch

    return run.config.trainer.get("accelerator", "auto") != "cpu" and torch.cuda.is_available()


def _check_checkpoint(run: Run, expected: dict[str, Any]) -> None:
    """Refuse a checkpoint of another system or network, saying what differs."""
    if run.checkpoint is None:
        return
    from fusion.wavefunctions.checkpoint import read

    found = read(run.checkpoint).get("vmc", {}).get("identity")
    if found is None:
        raise InputError(f"{run.checkpoint} is not a checkpoint of a wavefunction")
    for key in ("formula", "charge", "spin", "positions"):
        if found[key] != expected[key]:
            raise InputError(f"{run.checkpoint} is of another system: {key} {found[key]} there, {expected[key]} here")
    if found["parameters"] != expected["parameters"]:
        raise InputError(
            f"{run.checkpoint} is of another network: {_difference(found['parameters'], expected['parameters'])}"
        )


def _difference(found: dict[str, list[int]], expected: dict[str, list[int]]) -> str:
    for name in (*expected, *found):
        there, here = found.get(name), expected.get(name)
        if there != here:
            return f"{name} is {there or 'absent'} there, {here or 'absent'} here"
    return "its parameters have another order"
