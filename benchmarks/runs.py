"""Run fusion as a user does, and write tables: shared by the benchmarks."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

REFUSED = 2
"""Exit status of a command with wrong input, which leaves no result."""


@dataclass(frozen=True)
class Outcome:
    """One run: arguments, result.json ({} if there is none), exit status, wall and CPU seconds of the command."""

    arguments: tuple[str, ...]
    result: dict[str, Any]
    status: int
    wall_s: float
    cpu_s: float


def run(arguments: Sequence[str], directory: Path, threads: int) -> Outcome:
    """`python -m fusion ARGUMENTS` in a process of its own, with `threads` threads; a finished run is not repeated.

    A run that was stopped goes on from its checkpoint; its times are added up.
    """
    kept = _kept(arguments, directory)
    if kept is not None:
        return kept
    stopped = directory.parent / f"{directory.name}.stopped"
    earlier = json.loads(stopped.read_text()) if stopped.is_file() else {"wall_s": 0.0, "cpu_s": 0.0}
    words = ("resume", str(directory)) if stopped.is_file() else (*arguments, f"hydra.run.dir={directory}")
    began = time.perf_counter()
    with (directory.parent / f"{directory.name}.log").open("a") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        process = subprocess.Popen([sys.executable, "-m", "fusion", *words], env=environment, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    file = directory / "result.json"
    result = json.loads(file.read_text()) if file.is_file() else {}
    wall = earlier["wall_s"] + time.perf_counter() - began
    cpu = earlier["cpu_s"] + usage.ru_utime + usage.ru_stime
    outcome = Outcome(tuple(arguments), result, process.returncode, wall, cpu)
    if result or process.returncode == REFUSED:
        (directory.parent / f"{directory.name}.json").write_text(json.dumps(asdict(outcome)))
        stopped.unlink(missing_ok=True)
    elif (directory / "config.yaml").is_file():
        stopped.write_text(json.dumps({"wall_s": wall, "cpu_s": cpu}))
    return outcome


def run_all(jobs: Iterable[Sequence[str]], directory: Path, parallel: int, threads: int) -> list[Outcome]:
    """All jobs, `parallel` at a time, in subdirectories of `directory`."""
    directory.mkdir(parents=True, exist_ok=True)

    def one(item: tuple[int, Sequence[str]]) -> Outcome:
        outcome = run(item[1], directory / f"{item[0]:03d}", threads)
        energy = outcome.result.get("energy", {})
        print(
            f"{' '.join(item[1])}: {energy.get('value')} ± {energy.get('stderr')}  {outcome.wall_s:.0f} s", flush=True
        )
        return outcome

    with ThreadPoolExecutor(parallel) as pool:
        return list(pool.map(one, enumerate(jobs)))


def _kept(arguments: Sequence[str], directory: Path) -> Outcome | None:
    file = directory.parent / f"{directory.name}.json"
    if not file.is_file():
        return None
    kept = json.loads(file.read_text())
    return Outcome(**{**kept, "arguments": tuple(arguments)}) if kept["arguments"] == list(arguments) else None


def machine(*packages: str) -> str:
    """Machine of the timings, with the versions of Python and of `packages` that are installed."""
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine()
    )
    versions = [f"Python {platform.python_version()}"]
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(f"{name} {metadata.version(name)}")
    return f"{os.cpu_count()} cores, {model}, {', '.join(versions)}"


def write_table(path: Path, title: str, notes: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a Markdown file with one table."""
    lines = [f"# {title}", "", notes, "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    path.write_text("\n".join(lines) + "\n")
    print(path.read_text())


def table_rows(path: Path) -> list[tuple[str, ...]]:
    """Rows of the table in a file that `write_table` wrote; none if there is no file."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("| ")] if path.is_file() else []
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[1:]]


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.is_file() else []
