"""Program that runs an ASE calculator in the Python environment of `method.python`, for `ase_remote`.

It needs Python 3.9 or later and ASE, and never imports fusion. One line of JSON on the standard input says what to
create, one line on the standard output answers. Geometries, energies and forces then go through a Unix socket in the
i-PI protocol of `ase.calculators.socketio`. The text of the protocol's INIT describes the atoms with charge and spin,
and the extra text beside the forces has the other properties, or the error.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Create the calculator that the standard input describes and answer until the socket is closed."""
    # The parent decides what a signal to the terminal's processes means; the end of its socket ends this process.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # packages print to the standard output
    request = json.loads(sys.stdin.readline())
    calculator = None
    try:
        calculator, answer = _created(request)
    except ModuleNotFoundError as error:
        answer = {"missing": f"there is no Python package {str(error.name)!r}"}
    answers.write(json.dumps(answer) + "\n")
    answers.close()
    if calculator is not None:
        _serve(calculator, int(sys.argv[1]))


def _created(request: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Calculator and answer: what it implements, or why it cannot be created."""
    folder = Path(__file__).resolve().parent
    sys.path[:] = [place for place in sys.path if Path(place).resolve() != folder]  # its files would hide packages
    specification = importlib.util.spec_from_file_location("fusion_ase_import", folder / "ase_import.py")
    assert specification is not None and specification.loader is not None
    calculators: Any = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(calculators)
    from ase.calculators.calculator import FileIOCalculator

    try:
        source = calculators.maker(request["calculator"])
        calculator = calculators.made(request["calculator"], source, request["options"])
    except calculators.MissingPackage as error:
        return None, {"missing": str(error)}
    except calculators.Unusable as error:
        return None, {"unusable": str(error)}
    if isinstance(calculator, FileIOCalculator) and "directory" not in request["options"]:
        calculator.directory = request["directory"]
    return calculator, {
        "properties": list(map(str, calculator.implemented_properties)),
        "versions": {name: _version(name) for name in ("ase", *request["packages"])},
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _serve(calculator: Any, descriptor: int) -> None:
    """Answer the messages of the i-PI protocol until the other end is closed."""
    import numpy as np
    from ase.calculators.socketio import IPIProtocol, SocketClosed

    protocol = IPIProtocol(socket.socket(fileno=descriptor))
    state = "NEEDINIT"
    known: Any = None
    atoms: Any = None
    computed: Any = None
    wanted: list[str] = []
    while True:
        try:
            message = protocol.recvmsg()
            if message == "STATUS":
                protocol.sendmsg(state)
            elif message == "INIT":
                description = json.loads(bytes(protocol.recvinit()[1]))
                wanted, state = description.pop("properties"), "READY"
                if description != known:
                    atoms, known = _described(description, calculator), description
            elif message == "POSDATA":
                cell, _, positions = protocol.recvposdata()
                atoms.set_cell(cell)
                atoms.set_positions(positions)
                computed, state = _computed(atoms, calculator, wanted), "HAVEDATA"
            elif message == "GETFORCE":
                energy, forces, more = computed
                extra = np.frombuffer(json.dumps(more).encode(), np.byte)
                protocol.sendforce(energy, forces, np.zeros((3, 3)), extra)
                state = "READY"
            else:
                return
        except (SocketClosed, ConnectionError):
            return


def _described(description: dict[str, Any], calculator: Any) -> Any:
    """Atoms of a description; the calculator receives its attributes and keywords, and forgets earlier results."""
    from ase import Atoms

    atoms = Atoms(numbers=description["numbers"], pbc=description["pbc"], info=description["info"])
    if description["charges"] is not None:
        atoms.set_initial_charges(description["charges"])
    if description["moments"] is not None:
        atoms.set_initial_magnetic_moments(description["moments"])
    for key, value in description["attributes"].items():
        setattr(calculator, key, value)
    if description["keywords"]:
        calculator.set(**description["keywords"])
    calculator.reset()
    return atoms


def _computed(atoms: Any, calculator: Any, wanted: list[str]) -> tuple[float, Any, dict[str, Any]]:
    """Energy in eV, forces (A, 3) in eV/Angstrom, and the other wanted properties or the error, ready for JSON."""
    import numpy as np
    from ase.calculators.calculator import SCFError

    forces = np.zeros((len(atoms), 3))
    try:
        # The most expensive property first: its calculation gives the others as well.
        values = {name: np.array(calculator.get_property(name, atoms), dtype=float) for name in wanted}
        if not np.isfinite(values["energy"]).all():
            raise ValueError(f"the energy is {values['energy']}")
    except Exception as error:  # a calculator may do anything
        calculator.reset()
        text = " ".join(str(error).split()) or type(error).__name__
        return 0.0, forces, {"error": text, "not_converged": isinstance(error, SCFError)}
    forces = values.pop("forces", forces).reshape(len(atoms), 3)
    if not np.isfinite(forces).all():
        return 0.0, np.zeros_like(forces), {"error": "the forces are not finite", "not_converged": False}
    energy = float(values.pop("energy").reshape(()))
    return energy, forces, {name: value.tolist() for name, value in values.items()}


if __name__ == "__main__":
    main()
