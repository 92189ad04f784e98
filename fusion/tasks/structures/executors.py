"""Workers that a run starts: jobs of any executor, each of which runs the program on the run's directory.

An executor submits calls and returns futures, as those of `concurrent.futures` do. A job starts the program as a
process of its own: its threads are limited, its memory is its own, and its death affects no other worker.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fusion.config import messages
from fusion.config.checks import check_whole
from fusion.errors import InputError
from fusion.parallel.processes import WORK_COMMAND

SUBMITIT = f"{__name__}.submitit"
"""Target of executor=submitit."""

POOL = "concurrent.futures.ThreadPoolExecutor"
"""Target of executor=pool: processes of this machine, each watched by a thread."""

OUTPUT = "workers.txt"
"""File of what the workers print, in the directory of a run."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_PATIENCE_S = 10.0
_started: set[subprocess.Popen[bytes]] = set()  # workers of this process


def run_worker(directory: str, threads: int) -> str:
    """Run one worker on the directory of a run, with a number of threads; return the last line of a failure, or ""."""
    environment = os.environ | dict.fromkeys(_THREADS, str(threads))
    output = Path(directory) / OUTPUT
    with output.open("ab") as file:
        # Nothing is written to the pipe: its end tells the worker that this process is gone.
        process = subprocess.Popen(
            [sys.executable, "-m", "fusion", WORK_COMMAND, directory],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        _started.add(process)
        status = process.wait()
        _started.discard(process)
    if status == 0:
        return ""
    if status < 0:
        return f"a worker was ended by {signal.Signals(-status).name}"
    lines = output.read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), f"a worker ended with status {status}")


@dataclass(frozen=True)
class Share:
    """Workers of a run, and threads of each."""

    workers: int
    threads: int


def share(stated: Any, batched: bool) -> Share:
    """Number of workers as `stated`, otherwise one for a method with batches, else one for each core.

    OMP_NUM_THREADS, if set, is the number of threads of a worker. Raises InputError.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS", "")
    own = int(threads) if threads.isdecimal() and int(threads) > 0 else None
    if stated is not None:
        check_whole("executor.workers", stated)
    workers = stated or (1 if batched else max(1, cores // (own or 1)))
    return Share(workers, own or max(1, cores // workers))


class Workers:
    """Jobs of an executor. `settings` has its `_target_` and keywords. Raises InputError if it cannot be had."""

    def __init__(self, settings: Mapping[str, Any], directory: Path, shared: Share) -> None:
        keywords = {key: value for key, value in settings.items() if key != "workers"}
        self._executor = _built(keywords, directory)
        self._jobs = [self._executor.submit(run_worker, str(directory), shared.threads) for _ in range(shared.workers)]

    @property
    def over(self) -> bool:
        """True if no worker is left."""
        return all(job.done() for job in self._jobs)

    def failure(self) -> str:
        """Reason why a worker failed; empty if none did, or if they have not ended yet."""
        for job in self._jobs:
            if job.done():
                try:
                    reason = str(job.result())
                except Exception as error:  # an executor's own failure: a job that the scheduler ended
                    reason = f"{type(error).__name__}: {messages.one_line(error)}"
                if reason:
                    return reason
        return ""

    def stop(self) -> None:
        """Stop the workers: those of this machine between two structures, those elsewhere by their scheduler."""
        for job in self._jobs:
            with suppress(NotImplementedError):  # by Parsl, which ends its jobs when it is shut down
                job.cancel()
        for process in list(_started):
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE_S
        for process in list(_started):
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        if callable(shutdown := getattr(self._executor, "shutdown", None)):  # submitit's has none
            shutdown(wait=False)


def check(settings: Mapping[str, Any]) -> None:
    """Raise InputError for an executor that cannot be had: a wrong name, a missing package, a machine without SLURM."""
    from hydra.utils import get_object

    target, cluster = str(settings.get("_target_")), settings.get("cluster")
    if target == SUBMITIT:
        if find_spec("submitit") is None:
            raise InputError("executor=submitit needs the package submitit: pip install 'aiqm-fusion[submitit]'")
        if cluster in (None, "slurm") and shutil.which("srun") is None:
            raise InputError(
                "executor=submitit: this machine has no SLURM (no srun): executor=pool, or executor.cluster=local"
            )
    try:
        get_object(target)
    except Exception as error:  # importing a module may fail in any way
        raise InputError(f"executor._target_={target}: {messages.one_line(error)}") from error


def submitit(folder: str, cluster: str | None = None, **parameters: Any) -> Any:
    """Return submitit's executor, for SLURM or `cluster=local`; `parameters` are those of a job, as submitit names
    them."""
    from submitit import AutoExecutor

    executor = AutoExecutor(folder=folder, cluster=cluster)
    executor.update_parameters(**{key: value for key, value in parameters.items() if value is not None})
    return executor


def _built(keywords: Mapping[str, Any], directory: Path) -> Any:
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    target = str(keywords.get("_target_"))
    folder = {"folder": str(directory / "submitit")} if target == SUBMITIT else {}
    try:
        executor = instantiate(dict(keywords) | folder)
    except InstantiationException as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise InputError(f"executor: {messages.one_line(error)}") from error
    if not callable(getattr(executor, "submit", None)):
        raise InputError(f"executor._target_={target} is no executor: it has no submit(function, ...)")
    return executor
