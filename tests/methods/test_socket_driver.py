"""`fusion serve`: a method behind a socket gives the numbers that it gives directly, in the units of i-PI."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.socketio import SocketIOCalculator, actualunixsocketname
from ase.io import write

import fusion
from fusion.errors import InputError
from fusion.methods.socket_driver import Address
from processes import Program, Running

TIMEOUT_S = 300.0
"""Limit of a connection that hangs; far above what a busy machine needs."""


@pytest.fixture
def name() -> Iterator[str]:
    """Name of a unix socket of this process; its file is removed at the end."""
    name = f"fusion-test-{os.getpid()}"
    yield name
    Path(actualunixsocketname(name)).unlink(missing_ok=True)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def water(tmp_path: Path) -> Atoms:
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=3)
    write(tmp_path / "water.xyz", atoms)
    return atoms


def test_a_unix_socket_gives_the_energies_and_forces_of_the_method(
    with_toy: None, environment: dict[str, str], tmp_path: Path, name: str
) -> None:
    atoms = water(tmp_path)
    direct = fusion.calculator("morse")
    with SocketIOCalculator(unixsocket=name, timeout=TIMEOUT_S) as server:
        words = ("serve", "+method=morse", "system=water.xyz", f"socket={name}")
        driver = Running(words, tmp_path, environment)
        for step in range(3):
            atoms.rattle(0.02, seed=step)
            expected = direct.get_potential_energy(atoms), direct.get_forces(atoms)
            atoms.calc = server
            assert atoms.get_potential_energy() == pytest.approx(expected[0], rel=1e-12)
            assert atoms.get_forces() == pytest.approx(expected[1], abs=1e-10)
    done = driver.done()
    assert done.status == 0 and not done.err
    assert "3 structures" in done.out and name in done.out and "H2O" in done.out


def test_a_periodic_system_is_served_with_its_stress(
    with_toy: None, environment: dict[str, str], tmp_path: Path
) -> None:
    atoms = molecule("H2O", cell=[5.0, 5.5, 6.0], pbc=True)
    write(tmp_path / "box.xyz", atoms, format="extxyz")
    direct, port = fusion.calculator("morse"), free_port()
    atoms.set_cell([4.9, 5.6, 6.1], scale_atoms=True)  # the cell comes from the server
    expected = direct.get_stress(atoms)
    with SocketIOCalculator(port=port, timeout=TIMEOUT_S) as server:
        driver = Running(
            ("serve", "+method=morse", "system=box.xyz", f"socket=localhost:{port}"), tmp_path, environment
        )
        atoms.calc = server
        assert np.abs(expected).max() > 1e-3
        assert atoms.get_stress() == pytest.approx(expected, abs=1e-10)
    assert driver.done().status == 0


@pytest.mark.parametrize(
    ("words", "atoms", "status", "message"),
    [
        (["+method=morse", "system=water.xyz"], Atoms("H2", [[0, 0, 0], [0, 0, 1]]), 2, "the server sends 2 atoms"),
        (["+method=bonds", "system=h2o", "method.fails_at=0"], molecule("H2O"), 1, "did not converge"),
    ],
)
def test_a_driver_that_stops_gives_one_line_and_closes_the_connection(
    environment: dict[str, str],
    tmp_path: Path,
    name: str,
    words: list[str],
    atoms: Atoms,
    status: int,
    message: str,
) -> None:
    water(tmp_path)
    with SocketIOCalculator(unixsocket=name, timeout=TIMEOUT_S) as server:
        driver = Running(("serve", *words, f"socket={name}"), tmp_path, environment)
        with pytest.raises(OSError):
            server.calculate(atoms)
        server.server.clientsocket.close()
        server.server.clientsocket = None
    done = driver.done()
    assert done.status == status and done.err.startswith("error: ") and done.err.count("\n") == 1, done
    assert message in done.err and "served           0 structures" in done.out


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"HTTP/1.1 400 Bad Request", "'HTTP/1.1 400', which is no message of the i-PI protocol"),
        (b"\xff" * 12, "no message of the i-PI protocol"),
        (b"POSDATA".ljust(12) + np.full(9, np.nan).tobytes(), "not finite"),
    ],
)
def test_a_server_of_another_kind_is_named(
    environment: dict[str, str], tmp_path: Path, sent: bytes, message: str
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(TIMEOUT_S)
        words = ("serve", "+method=morse", "system=h2o", f"socket=localhost:{server.getsockname()[1]}")
        driver = Running(words, tmp_path, environment)
        connection, _ = server.accept()
        with connection:
            connection.sendall(sent)
            done = driver.done()
    assert done.status == 2 and message in done.err and done.err.count("\n") == 1, done


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+method=morse", "socket=nobody-listens"], "nothing listens at /tmp/ipi_nobody-listens"),
        (["+method=morse", "socket=localhost:1"], "nothing listens at localhost:1"),
        (["+method=morse"], "needs one socket=NAME"),
        (["+method=morse", "socket=a", "socket=b"], "needs one socket=NAME"),
        (["+method=morse", "socket=a/b"], "write socket=NAME"),
        (["+method=morse", "socket=host:70000"], "write socket=NAME"),
        (["+method=toi", "socket=a"], "Did you mean 'toy'?"),
        (["+method=morse", "socket=a", "task=md"], "runs no task"),
        (["morse", "socket=a"], "takes settings, not 'morse'"),
        (["+method=noisy", "socket=a"], "exact forces"),
        (["socket=a"], "no method given"),
    ],
)
def test_wrong_input_is_one_line(program: Program, words: list[str], message: str) -> None:
    done = program("serve", *words)
    assert done.status == 2 and message in done.err and done.err.count("\n") == 1 and not done.out


def test_addresses() -> None:
    assert str(Address.read("md")) == "/tmp/ipi_md" and str(Address.read("node7:31415")) == "node7:31415"
    assert Address.read(":31415") == Address("localhost", 31415)
    for text in ("", "host:", "host:0", "/tmp/ipi_md"):
        with pytest.raises(InputError, match="socket=NAME"):
            Address.read(text)


INPUT = """<simulation verbosity='quiet'>
  <output prefix='out'>
    <properties stride='1' filename='md'> [step, conserved, potential] </properties>
  </output>
  <total_steps>{steps}</total_steps>
  <prng><seed>7</seed></prng>
  <ffsocket name='driver' mode='unix'><address>{name}</address></ffsocket>
  <system>
    <initialize nbeads='{beads}'>
      <file mode='ase' units='angstrom'>start.xyz</file>
      <velocities mode='thermal' units='kelvin'>300</velocities>
    </initialize>
    <forces><force forcefield='driver'/></forces>
    <motion mode='dynamics'>
      <dynamics mode='nve'><timestep units='femtosecond'>0.25</timestep></dynamics>
    </motion>
    <ensemble><temperature units='kelvin'>300</temperature></ensemble>
  </system>
</simulation>
"""


@pytest.mark.skipif(importlib.util.find_spec("ipi") is None, reason="i-PI is not installed: pip install ipi")
def test_i_pi_runs_path_integrals_that_conserve_the_energy(
    environment: dict[str, str], tmp_path: Path, name: str
) -> None:
    steps, beads = 40, 2
    atoms = molecule("H2O", cell=[20.0, 20.0, 20.0], pbc=True)
    write(tmp_path / "start.xyz", atoms, format="extxyz")
    write(tmp_path / "water.xyz", molecule("H2O"))
    (tmp_path / "input.xml").write_text(INPUT.format(steps=steps, name=name, beads=beads))
    program = shutil.which("i-pi", path=str(Path(sys.executable).parent)) or "i-pi"
    with subprocess.Popen([program, "input.xml"], cwd=tmp_path, stdout=subprocess.DEVNULL) as server:
        while not Path(actualunixsocketname(name)).exists():
            assert server.poll() is None
        done = Running(("serve", "+method=morse", "system=water.xyz", f"socket={name}"), tmp_path, environment).done()
        assert server.wait() == 0
    assert done.status == 0, done
    assert f"{(steps + 1) * beads} structures" in done.out
    table = np.loadtxt(tmp_path / "out.md")
    conserved, potential = (table[:, column] * units.Ha for column in (1, 2))
    assert np.ptp(potential) > 0.05 and np.ptp(conserved) < 0.05 * np.ptp(potential)
