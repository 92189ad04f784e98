"""Records of calculated structures: lines of JSON, in a file for each worker.

A worker appends only to its own file and only whole lines, so that no lock is needed, and a kill costs at most the line
that was being written. Together the files hold every result once, because a worker reads them after it has claimed a
structure and before it calculates it.
"""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from fusion.chemistry.system import System
from fusion.files.atomic import make_folder, naming
from fusion.methods.recorded import plain
from fusion.runs.results import Result

FOLDER = "records"
"""Folder of the records in the directory of a run."""


@dataclass(frozen=True)
class Record:
    """Result of one structure, by its number in the set. Energies in hartree, lengths in bohr.

    `positions` and `cell` are those of the result, None if they are those of the set.
    """

    index: int
    status: str
    energy: float | None = None
    energy_stderr: float | None = None
    energy_std: float | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    message: str | None = None
    warnings: list[str] = field(default_factory=list)
    positions: list[list[float]] | None = None
    cell: list[list[float]] | None = None
    wall_s: float = 0.0
    worker: str = ""

    @classmethod
    def of(cls, index: int, start: System, result: Result, wall_s: float, worker: str) -> Record:
        """Return the record of `result` for the structure `start`."""
        moved = result.system.positions is not start.positions
        cell = result.system.cell
        return cls(
            index,
            result.status,
            result.energy,
            result.energy_stderr,
            result.energy_std,
            plain(result.properties),
            plain(result.details),
            result.message,
            list(result.warnings),
            result.system.positions.tolist() if moved else None,
            cell.tolist() if moved and cell is not None else None,
            wall_s,
            worker,
        )

    def result(self, start: System) -> Result:
        """Return the result for the structure `start`, with arrays as properties."""
        system = start
        if self.positions is not None:
            system = start.moved(np.array(self.positions), None if self.cell is None else np.array(self.cell))
        arrays = {k: np.array(v) if isinstance(v, list) else v for k, v in self.properties.items()}
        energies = (self.energy, self.energy_stderr, self.energy_std)
        return Result(system, self.status, *energies, arrays, dict(self.details), self.message, list(self.warnings))


class Records:
    """All records of a run's directory, and the file of this worker."""

    def __init__(self, directory: Path) -> None:
        self.folder, self.worker = directory / FOLDER, f"{socket.gethostname()}-{os.getpid()}"
        make_folder(self.folder, directory)
        self.done: dict[int, Record] = {}
        """Records by the number of their structure, as of the last `refresh`."""
        self.attempts: Counter[int] = Counter()
        """Number of times that the calculation of a structure was begun."""
        self._read: dict[Path, int] = {}
        self._file: TextIO | None = None

    def refresh(self) -> None:
        """Read what workers have added since the last call."""
        for path in sorted(self.folder.glob("*.jsonl")):
            start = self._read.get(path, 0)
            if path.stat().st_size == start:
                continue
            with path.open("rb") as file:
                file.seek(start)
                content = file.read()
            complete = content.rfind(b"\n") + 1  # the rest is being written, or its writer was killed
            self._read[path] = start + complete
            for line in content[:complete].splitlines():
                self._take(json.loads(line))

    def begin(self, indices: Sequence[int], times: int = 1) -> None:
        """Note that the calculation of structures begins: one that ends its workers again and again is given up.

        With `times` -1, take that back.
        """
        self._append([{"begun": list(indices), "times": times}])

    def add(self, records: Sequence[Record]) -> None:
        """Append records; they are on the disk when this returns."""
        self._append([vars(record) for record in records])

    def close(self) -> None:
        """Close this worker's file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _take(self, entry: dict[str, Any]) -> None:
        if "begun" in entry:
            self.attempts.update(dict.fromkeys(entry["begun"], entry["times"]))
        else:
            self.done.setdefault(int(entry["index"]), Record(**entry))

    def _append(self, entries: Sequence[dict[str, Any]]) -> None:
        if self._file is None:
            self._file = _new(self.folder, self.worker)
        path = Path(self._file.name)
        with naming(path):
            self._file.write("".join(f"{json.dumps(entry)}\n" for entry in entries))
            self._file.flush()
            os.fsync(self._file.fileno())


def _new(folder: Path, worker: str) -> TextIO:
    """Create the file of a worker; an earlier process may have had the same name."""
    for number in range(1, 10_000):
        path = folder / (f"{worker}.jsonl" if number == 1 else f"{worker}-{number}.jsonl")
        try:
            return path.open("x", encoding="utf-8")
        except FileExistsError:
            continue
    raise AssertionError
