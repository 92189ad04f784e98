"""ASE calculators in another Python environment, for packages whose pinned dependencies exclude each other.

The calculator lives in a process of the other environment's Python (`ase_worker`), which receives geometries in the
i-PI protocol of `ase.calculators.socketio` through a Unix socket, and charge and spin in the text of its INIT.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, SCFError, all_changes
from ase.calculators.socketio import IPIProtocol

from fusion.errors import InputError
from fusion_conventional.ase_import import MissingPackage, Unusable

_WORKER: Final = Path(__file__).with_name("ase_worker.py")
_OF_THIS_ENVIRONMENT: Final = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
_PATIENCE_S: Final = 5.0
"""Time for a process to end by itself after its socket is closed."""


class WorkerDied(RuntimeError):
    """Process of the other environment that ended by itself; the message has the last line that it wrote."""


def located_python(name: str) -> str:
    """Return the path of the Python `name`: a path, relative to the current directory, or a program on the PATH.

    Raises InputError.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        raise InputError(f"method.python={name} is a folder; write its program, {path / 'bin' / 'python'}")
    # A link is not followed: the folder of an environment's python is what names the environment.
    program = shutil.which(str(path.absolute()) if path.name != str(path) else name)
    if program is None:
        raise InputError(f"method.python: there is no program {name!r}; write the path of an environment's bin/python")
    return program


class RemoteCalculator(Calculator):
    """ASE calculator that has another process of `python` calculate, started at once and again after its death.

    `name` and `options` are those of `ase_import.made`; `directory` is where programs run; `packages` are
    distributions whose `versions` the process reports. Raises Unusable for a calculator that cannot be created there.
    """

    def __init__(
        self, python: str, name: str, options: Mapping[str, Any], directory: str, packages: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.attributes: dict[str, Any] = {}
        """Attributes that the calculator gets before the next calculation."""
        self.keywords: dict[str, Any] = {}
        """Keywords that its `set` gets before the next calculation."""
        self.wanted: tuple[str, ...] = ()
        """Properties that one calculation gives together, the most expensive first."""
        self._python = python
        self._request = {"calculator": name, "options": options, "directory": directory, "packages": list(packages)}
        self._worker: _Worker | None = None
        try:
            json.dumps(self._request)
        except TypeError as error:
            raise Unusable(f"method.options of {name} with method.python must be plain settings ({error})") from error
        answer = self._started().answer
        self.implemented_properties = answer["properties"]
        self.versions: dict[str, str] = {key: value for key, value in answer["versions"].items() if value}

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Calculate `properties` and the energy. Raises SCFError or RuntimeError with the calculator's message."""
        super().calculate(atoms, properties, system_changes)
        worker = self._worker or self._started()
        try:
            values = worker.calculate(self.atoms, self._description(properties))
        except WorkerDied:
            self._worker = None
            raise
        if "error" in values:
            raise (SCFError if values["not_converged"] else RuntimeError)(values["error"])
        self.results = {key: value if key == "energy" else np.array(value) for key, value in values.items()}

    def _started(self) -> _Worker:
        self._worker = _Worker(self._python, self._request)
        return self._worker

    def _description(self, properties: Sequence[str]) -> dict[str, Any]:
        """Description of the atoms for the other process, beside positions and cell, ready for JSON."""
        atoms = self.atoms
        charges, moments = atoms.get_initial_charges(), atoms.get_initial_magnetic_moments()
        return {
            "numbers": atoms.numbers.tolist(),
            "pbc": atoms.pbc.tolist(),
            "info": dict(atoms.info),
            "charges": charges.tolist() if charges.any() else None,
            "moments": moments.tolist() if moments.any() else None,
            "attributes": self.attributes,
            "keywords": self.keywords,
            "properties": [name for name in dict.fromkeys((*self.wanted, *properties)) if name != "energy"]
            + ["energy"],
        }


class _Worker:
    """Running process of the other environment with its socket, and its `answer` to the request."""

    def __init__(self, python: str, request: Mapping[str, Any]) -> None:
        self._python, self._described = python, ""
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process)
        ours, its = socket.socketpair()
        environment = {key: value for key, value in os.environ.items() if key not in _OF_THIS_ENVIRONMENT}
        with its:
            try:
                self._process = subprocess.Popen(
                    [python, str(_WORKER), str(its.fileno())],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._output,
                    pass_fds=[its.fileno()],
                    env=environment,
                )
            except OSError as error:
                ours.close()
                raise Unusable(f"method.python={python} cannot be run ({error.strerror})") from error
        self._protocol = IPIProtocol(ours)
        self._end = weakref.finalize(self, _end, self._process, ours, self._output)
        self.answer = self._answer(request)

    def calculate(self, atoms: Atoms, description: Mapping[str, Any]) -> dict[str, Any]:
        """Values in ASE's units by property, or `error` and `not_converged`. Raises WorkerDied."""
        text = json.dumps(description, default=int)
        try:
            if text != self._described:
                self._initialise(text)
            answer = self._protocol.calculate(atoms.positions, np.array(atoms.cell))
        except (OSError, AssertionError) as error:  # an end in the middle of a message is an unexpected one
            raise WorkerDied(self._death()) from error
        more: dict[str, Any] = json.loads(answer["morebytes"].tobytes())
        if "error" in more:
            return more
        forces = {"forces": answer["forces"]} if "forces" in description["properties"] else {}
        return {"energy": float(answer["energy"]), **forces, **more}

    def _initialise(self, text: str) -> None:
        data = np.frombuffer(text.encode(), np.byte)
        self._protocol.sendmsg("INIT")
        for number in (0, len(data)):
            self._protocol.send([number], np.int32)
        self._protocol.send(data, np.byte)
        self._described = text

    def _answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer of the process to its request. Raises Unusable."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError), self._process.stdin as requests:
            requests.write(json.dumps(request).encode() + b"\n")
        with self._process.stdout as answers:
            line = answers.readline()
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Unusable(f"{self._death()}; it must be a Python from 3.9 on with ASE")
        if "missing" in answer:
            raise MissingPackage(f"{answer['missing']} in the environment of method.python={self._python}")
        if "unusable" in answer:
            raise Unusable(answer["unusable"])
        return answer

    def _death(self) -> str:
        """Sentence on the end of the process with the last line that it wrote."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE_S)
        return f"method.python={self._python} ended (status {self._process.poll()}): {_last_line(self._output)}"


def _last_line(file: IO[bytes]) -> str:
    file.seek(0)
    lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return " ".join(lines[-1].split()) if lines else "it wrote nothing"


def _end(process: subprocess.Popen[bytes], connection: socket.socket, output: IO[bytes]) -> None:
    """Close the socket, which ends the process, and kill the process if it stays busy."""
    connection.close()
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    output.close()
