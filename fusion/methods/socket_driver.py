"""Driver of an i-PI server: receives positions over a socket, returns energies, forces and virials of a method.

The protocol (Kapil et al., Comput. Phys. Commun. 236, 214 (2019)) is ASE's. Servers are i-PI, ASE's SocketIOCalculator
and other programs that move atoms. The protocol transmits positions and the cell, never the elements: these are those
of the driver's system, in the order of the server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.calculators.socketio import IPIProtocol, SocketClient, actualunixsocketname
from ase.stress import voigt_6_to_full_3x3_stress

from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.methods import protocol
from fusion.methods.ase_calculator import FusionCalculator
from fusion.methods.protocol import Method

if TYPE_CHECKING:
    from ase import Atoms

_INTERNET = re.compile(r"(?P<host>[^/:\s]*):(?P<port>\d+)")
_PORTS = 65536
_MESSAGES = frozenset({"STATUS", "INIT", "POSDATA", "GETFORCE", "EXIT"})


@dataclass(frozen=True)
class Address:
    """Address of a server: the name of a unix socket, or host and port."""

    name: str
    port: int | None = None

    @classmethod
    def read(cls, text: str) -> Address:
        """Read `NAME` for the unix socket /tmp/ipi_NAME, or `host:port`. Raises InputError for any other text."""
        internet = _INTERNET.fullmatch(text)
        if internet and 0 < int(internet["port"]) < _PORTS:
            return cls(internet["host"] or "localhost", int(internet["port"]))
        if not text or "/" in text or ":" in text:
            raise InputError(
                f"socket={text}: write socket=NAME for {actualunixsocketname('NAME')}, or socket=host:port"
            )
        return cls(text)

    def __str__(self) -> str:
        return actualunixsocketname(self.name) if self.port is None else f"{self.name}:{self.port}"


class Driver:
    """Connection of a method and a system to the server at `address`.

    The constructor checks the method and connects. Raises InputError if the method gives no exact forces for the
    system, or if nothing listens at the address. `served` counts the calculated structures.
    """

    def __init__(self, method: Method, system: System, address: Address) -> None:
        needs = {"energy", "forces"}
        protocol.require(method, needs, "an i-PI driver", [system])
        self.system, self.served = system, 0
        self.has_stress = any(system.pbc) and bool(protocol.offered(method, {"stress"}, [system]))
        self._names = [*sorted(needs), *(["stress"] if self.has_stress else [])]
        self._calculator = FusionCalculator(method, system.charge, system.spin)
        self._client = _connected(address)
        self._client.protocol = _Protocol(self._client.protocol.socket, system)
        self._client.calculate = self._calculated

    def run(self) -> None:
        """Answer until the server ends the connection.

        Raises InputError for positions that do not fit the system, and CalculationError for a failed calculation; the
        server then sees a closed connection.
        """
        atoms = self.system.to_atoms()
        try:
            for _ in self._client.irun(atoms):
                self.served += 1
        except ConnectionError:
            return  # the server ended without a message

    def _calculated(self, atoms: Atoms, use_stress: bool) -> tuple[float, np.ndarray, np.ndarray]:
        """Energy (eV), forces (A, 3) in eV/Angstrom and virial (3, 3) in eV, from one calculation."""
        self._calculator.calculate(atoms, self._names, ["positions", "cell"])
        results: dict[str, Any] = self._calculator.results
        virial = np.zeros((3, 3))
        if self.has_stress:
            virial = -atoms.get_volume() * voigt_6_to_full_3x3_stress(results["stress"])
        return results["energy"], results["forces"], virial


class _Protocol(IPIProtocol):
    """Protocol that says what is wrong with the server's messages; ASE fails without a reason."""

    def __init__(self, socket: Any, system: System) -> None:
        super().__init__(socket)
        self._system = system

    def recvmsg(self) -> str:
        try:
            message = str(super().recvmsg())
        except UnicodeDecodeError:
            message = "?"
        if message not in _MESSAGES:
            raise InputError(f"the server sends {message[:12]!r}, which is no message of the i-PI protocol")
        return message

    def recvposdata(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        try:
            cell, inverse, positions = super().recvposdata()
        except AssertionError:
            raise InputError("the server sends positions or a cell that are not finite") from None
        expected = len(self._system.symbols)
        if len(positions) != expected:
            raise InputError(
                f"the server sends {len(positions)} atoms, but {self._system.name} ({self._system.formula}) has "
                f"{expected}; give the server's structure with system=FILE, its atoms in the same order"
            )
        return cell, inverse, positions


def _connected(address: Address) -> SocketClient:
    """Connect to a server. Raises InputError if there is none."""
    try:
        if address.port is None:
            return SocketClient(unixsocket=address.name)
        return SocketClient(host=address.name, port=address.port)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"nothing listens at {address} ({reason}); start the server (i-pi input.xml) first") from error
