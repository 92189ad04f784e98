"""Processes of a distributed run.

Lightning starts a process for each further device by repeating the command line. Under Hydra this would compose the
configuration again, and in a sweep every rank would run the complete sweep. Therefore the repeated command line is set
to `_rank RUN_DIR [CHECKPOINT]`: the further ranks read the resolved config.yaml of the run and write nothing. Processes
of torchrun or SLURM are recognised by their environment.
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
PART_COMMAND = "_parts"  # a process that runs parts of a comparison
WORK_COMMAND = "_work"  # a worker on many structures
# Variables that Lightning sets in the environment and that would disturb a second run in the same process.
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
"""Lock for changes of global state: Hydra's state, torch's default dtype, the plugins."""
_PATIENCE = 60.0  # seconds that the other ranks have to finish after the last collective operation


def rank() -> int:
    """Return the number of this process in the run, as Lightning counts; process 0 prints and writes."""
    for variable in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"):
        if variable in os.environ:
            return int(os.environ[variable])
    return 0


def end_with_parent() -> None:
    """End this process, and the programs it called, when the process that started it is gone.

    Its standard input is a pipe to which that process writes nothing.
    """
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    os.read(sys.stdin.fileno(), 1)
    os.killpg(0, signal.SIGKILL)  # files are written atomically


_running = 0


@contextmanager
def running() -> Iterator[None]:
    """Mark this process as executing a run, whose output goes to the terminal, while the block lasts."""
    global _running
    _running += 1
    try:
        yield
    finally:
        _running -= 1


def in_run() -> bool:
    """True while a run is in progress, False if fusion is used as a library."""
    return _running > 0


@contextmanager
def job(directory: Path, checkpoint: Path | None, relaunch: bool) -> Iterator[None]:
    """Enclose code that may build a Trainer, and restore the state that Lightning changes.

    `relaunch`: this process is the fusion program, so that its command line may be repeated.
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
        in_main = threading.current_thread() is threading.main_thread()  # only this thread may set handlers
        if in_main and interrupt is not signal.getsignal(signal.SIGINT):
            signal.signal(signal.SIGINT, interrupt)
        if torch is not None and threads != torch.get_num_threads():  # Lightning divides the threads among its ranks
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
    """Finish the run of wandb: the next job of a sweep is another run."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()


def _gather_ranks(finished: bool) -> None:
    """Wait for the ranks that Lightning started; stop them after a failure, since they would wait for this process."""
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
    """Discard printed output with `quiet`: only one process of a run prints."""
    if not quiet:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield
