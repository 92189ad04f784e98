"""Worker processes of a comparison: one per method, as many at a time as cores and memory allow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fusion.parallel.processes import PART_COMMAND
from fusion.runs.signals import between_steps
from fusion.tasks.compare.jobs import Part, prepare

OUTPUT = "output.txt"
_POLL_S = 0.1
_PATIENCE_S = 20.0  # time for a process to stop by itself
_ROOM_BYTES = 1.5e9  # with less free memory no further process starts beside others
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED")


class Worker:
    """The process of one method with the parts to calculate; call `look` regularly to update its state."""

    def __init__(self, label: str, parts: Sequence[Part]) -> None:
        self.label, self.parts = label, list(parts)
        self.todo = [part for part in self.parts if not part.done]
        self.process: subprocess.Popen[bytes] | None = None
        self.began, self.ended = 0.0, None if self.todo else time.monotonic()
        self.good = all(part.good for part in self.parts)
        self._next = 0

    @property
    def waiting(self) -> bool:
        return self.process is None and bool(self.todo)

    @property
    def running(self) -> bool:
        return self.process is not None and self.ended is None

    @property
    def finished(self) -> int:
        """Number of parts that have ended, successfully or not."""
        return len(self.parts) - len(self.todo) + self._next

    @property
    def current(self) -> Part | None:
        """The part being calculated; None when all have ended."""
        return self.todo[self._next] if self._next < len(self.todo) else None

    def look(self) -> None:
        """Update the state: finished parts, and the end of the process."""
        if not self.running or self.process is None:
            return
        over = self.process.poll() is not None
        while self.current is not None and self.current.over:
            self._next += 1
        if over:
            self.ended = time.monotonic()
            self.good = all(part.good for part in self.parts)
            if self.process.stdin is not None:
                self.process.stdin.close()

    @property
    def failure(self) -> str | None:
        """Reason for an abnormal end of the process; None for an ordinary one."""
        status = None if self.process is None else self.process.returncode
        if status is None or status in (0, 1):
            return None
        if status == -signal.SIGKILL:
            return "its process was killed, perhaps for lack of memory"
        if status < 0:
            return f"its process ended by {signal.Signals(-status).name}"
        return f"its process ended with status {status}: {_last_line(self.parts[0].directory.parent / OUTPUT)}"


@dataclass(frozen=True)
class Share:
    """Division of the machine: `jobs` processes at a time, each with `threads` threads."""

    jobs: int
    threads: int


def share(methods: int, jobs: int | None, threads: int | None) -> Share:
    """Use the settings where given; otherwise all cores, with a process for every method as long as cores last.

    If the user has set OMP_NUM_THREADS, it is the number of threads of a process.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    stated = os.environ.get("OMP_NUM_THREADS", "")
    if threads is None:
        threads = int(stated) if stated.isdecimal() and int(stated) > 0 else None
    if jobs is None:
        jobs = max(1, min(methods, cores // (threads or 1)))
    return Share(jobs, threads or max(1, cores // jobs))


def run(workers: Sequence[Worker], shared: Share, cwd: Path, show: Callable[[Sequence[Worker]], None]) -> None:
    """Run the workers. `show` is called with them a few times a second.

    Ctrl-C and SIGTERM stop the processes, then raise Stopped. The processes end with this one, whatever ends it.
    """
    waiting = [worker for worker in workers if worker.waiting]
    with between_steps() as stop_if_asked:
        try:
            while waiting or any(worker.running for worker in workers):
                for worker in workers:
                    worker.look()
                busy = sum(worker.running for worker in workers)
                if waiting and busy < shared.jobs and (busy == 0 or _room()):
                    _start(waiting.pop(0), shared, cwd)
                    continue
                show(workers)
                stop_if_asked()
                time.sleep(_POLL_S)
            show(workers)
        finally:
            _end([worker for worker in workers if worker.running])


def _start(worker: Worker, shared: Share, cwd: Path) -> None:
    for part in worker.todo:
        prepare(part)
    home = worker.parts[0].directory.parent
    command = [sys.executable, "-m", "fusion", PART_COMMAND, *(str(part.directory) for part in worker.todo)]
    environment = {key: value for key, value in os.environ.items() if key not in _RANKS}
    environment |= dict.fromkeys(_THREADS, str(shared.threads))
    environment.setdefault("PYSCF_MAX_MEMORY", str(_megabytes() // shared.jobs))
    with (home / OUTPUT).open("ab") as output:
        # Nothing is written to the pipe: its end tells the process that this one is gone. In a session of its own the
        # process does not receive Ctrl-C from the terminal.
        worker.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=cwd,
            start_new_session=True,
        )
    worker.began = time.monotonic()


def _end(workers: Sequence[Worker]) -> None:
    """Ask the processes to stop, kill them after a while, and kill the programs they called."""
    processes = [worker.process for worker in workers if worker.process is not None]
    for process in processes:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE_S
    try:
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _last_line(file: Path) -> str:
    lines = [line for line in file.read_text(errors="replace").splitlines() if line.strip()] if file.is_file() else []
    return lines[-1] if lines else "no output"


def _room() -> bool:
    import psutil

    return bool(psutil.virtual_memory().available >= _ROOM_BYTES)


def _megabytes() -> int:
    """Memory in MB for all processes together: four fifths of the free memory."""
    import psutil

    return int(0.8 * psutil.virtual_memory().available / 1e6)
