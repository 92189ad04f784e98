"""Alternate blocks of iterations of several processes, each of which waits while another computes.

The protocol: a worker warms up and answers; then every line on its standard input, a number of iterations, starts a
block, and a line on its standard output returns the measurement. The end of the input ends the worker. This module
needs only the standard library: the workers may belong to other environments.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Block(NamedTuple):
    """Wall and CPU seconds of a block's iterations, all threads, and the last iteration's energy in hartree."""

    wall: float
    cpu: float
    energy: float


class Blocks:
    """The worker's side; its loop calls ``finish`` after every iteration.

    The first block, the warm-up, begins with this object. All other output of the process goes to standard error.

    Args:
        warm_up: iterations of the first block.
    """

    def __init__(self, warm_up: int) -> None:
        self._answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self._begin(warm_up)

    def _begin(self, iterations: int) -> None:
        self._left = iterations
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def finish(self, energy: float) -> None:
        """Count an iteration; at the end of a block answer and wait for the next one.

        Raises:
            SystemExit: no further block is wanted.
        """
        self._left -= 1
        if self._left:
            return
        block = Block(time.perf_counter() - self._wall, time.process_time() - self._cpu, energy)
        print(json.dumps(block), file=self._answers, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise SystemExit
        self._begin(int(line))


class Worker:
    """The measuring side: a process that warms up before the constructor returns.

    Attributes:
        start: wall seconds from the start of the process to the end of its warm-up.

    Args:
        command: program of the worker.
        environment: variables to add to this process's environment.

    Raises:
        RuntimeError: the process ended early or its energy is not finite.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = command
        began = time.perf_counter()
        self._process = subprocess.Popen(
            command, env={**os.environ, **environment}, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._answer()
        self.start = time.perf_counter() - began

    def block(self, iterations: int) -> Block:
        """Compute a block; return its seconds per iteration."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{iterations}\n")
        self._process.stdin.flush()
        wall, cpu, energy = self._answer()
        return Block(wall / iterations, cpu / iterations, energy)

    def _answer(self) -> Block:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self._command)} ended with exit status {self._process.wait()}")
        block = Block(*json.loads(line))
        if not math.isfinite(block.energy):
            raise RuntimeError(f"{' '.join(self._command)}: the energy is {block.energy}")
        return block

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
