"""Worker on the many structures of a run, started by the process of the run or by a job of a scheduler."""

from __future__ import annotations

from pathlib import Path

from fusion.app.execution import build, build_task, seed
from fusion.app.settings import load_config
from fusion.chemistry import structure_sets
from fusion.console import logs
from fusion.methods import protocol
from fusion.parallel import processes
from fusion.runs import trust
from fusion.runs.directory import Lock
from fusion.runs.layout import CONFIG
from fusion.runs.run import Run
from fusion.runs.signals import raised


@processes.running()
def work(directory: Path) -> None:
    """Calculate structures of the run in `directory` until none is left. Raises InputError and CalculationError."""
    directory = directory.absolute()
    config = load_config(directory)
    with trust.settings(config, directory / CONFIG), Lock(directory, shared=True) as lock, raised():
        lock.acquire()
        lock.share()
        structures = structure_sets.read(config.system)
        method = build(lambda: protocol.build(config.method), "method")
        task = build_task(config)
        run = Run(directory, config, None, config.seed, Path.cwd())
        plan = build(lambda: task.check(method, structures, run), "task")
        with logs.into(directory):
            seed(run)
            task.work(plan, run)
