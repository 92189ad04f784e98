"""The processes of a distributed run.

Lightning starts one process per further device by repeating the command line. Under Hydra that would recompose
everything, and in a sweep run the whole sweep once more in every rank. So the command line that it repeats is set to
`_rank RUN_DIR [CHECKPOINT]`: the further ranks read the resolved config.yaml of the run and write nothing. Processes
that torchrun or SLURM started are recognised by their environment.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

RANK_COMMAND = "_rank"
PART_COMMAND = "_parts"  # a process that does parts of a comparison
# What Lightning leaves behind in the environment and a second run of the same process would trip over.
_VARIABLES = (
    "LOCAL_RANK",
    "NODE_RANK",
    "WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "OMP_NUM_THREADS",
    "PL_GLOBAL_SEED",
    "PL_SEED_WORKERS",
)
GLOBAL_STATE = threading.RLock()
"""Held by a thread while it changes state of the whole process: Hydra's, torch's default dtype, the plugins."""
_PATIENCE = 60.0  # seconds that the other ranks get to finish what they do after the last collective


def rank() -> int:
    """This process's number among those of the run, as Lightning counts: 0 for the one that prints and writes."""
    for variable in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"):
        if variable in os.environ:
            return int(os.environ[variable])
    return 0


_running = 0


@contextmanager
def running() -> Iterator[None]:
    """While the block lasts, this process does a run, whose output is the terminal's."""
    global _running
    _running += 1
    try:
        yield
    finally:
        _running -= 1


def in_run() -> bool:
    """True while a run is in progress, False where fusion is used as a library."""
    return _running > 0


@contextmanager
def job(directory: Path, checkpoint: Path | None, relaunch: bool) -> Iterator[None]:
    """Around everything that may build a Trainer.

    `relaunch`: this process is the fusion program, so its command line may be repeated.
    """
    before = {variable: os.environ.get(variable) for variable in _VARIABLES}
    arguments, interrupt = list(sys.argv), signal.getsignal(signal.SIGINT)
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch is not None else None
    if relaunch:
        sys.argv[1:] = [RANK_COMMAND, str(directory), *([str(checkpoint)] if checkpoint else [])]
    finished = False
    try:
        yield
        finished = True
    except SystemExit as error:
        # Lightning turns Ctrl-C into exit(1).
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise
    finally:
        sys.argv[:] = arguments
        in_main = threading.current_thread() is threading.main_thread()  # others may set no handlers
        if in_main and interrupt is not signal.getsignal(signal.SIGINT):
            signal.signal(signal.SIGINT, interrupt)
        if torch is not None and threads != torch.get_num_threads():  # Lightning divides them among its ranks
            torch.set_num_threads(threads)
        _leave_group()
        _finish_wandb()
        if relaunch:
            _gather_ranks(finished)
        for variable, value in before.items():
            if value is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = value


def _leave_group() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _finish_wandb() -> None:
    """The next job of a sweep is a run of its own."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()


def _gather_ranks(finished: bool) -> None:
    """Wait for the ranks that Lightning started from here; after a failure they are stopped, as nobody answers them
    any more."""
    if "LOCAL_RANK" not in os.environ:
        return
    import psutil

    ranks = []
    for process in psutil.Process().children():
        try:
            if RANK_COMMAND in process.cmdline():
                ranks.append(process)
        except psutil.Error:
            continue
    if not finished:
        for process in ranks:
            process.terminate()
    _, alive = psutil.wait_procs(ranks, timeout=_PATIENCE if finished else 5.0)
    for process in alive:
        process.kill()


@contextmanager
def silent(quiet: bool) -> Iterator[None]:
    """Swallow what is printed, where `quiet`: only one process of a run talks."""
    if not quiet:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield
